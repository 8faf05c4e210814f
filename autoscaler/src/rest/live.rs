//! Server-Sent Events: decisions, and each workload after a round.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::problem::Failure;
use crate::api::{Decision, Problem, Workload};
use crate::control::Live;

/// Events that wait for one client.
const QUEUE: usize = 64;

/// What happens from now on: `decision`, `workload` (replicas and load, once a round), `missed` (a number: the client
/// was too slow for so many).
#[utoipa::path(get, path = "/api/v1/stream", tag = "control",
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn stream(State(app): State<App>) -> Result<Response, Failure> {
    let Ok(permit) = app.streams.clone().try_acquire_owned() else {
        let detail = "as many live streams as are allowed (limits.streams) are open: try again later";
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail));
    };
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Event, Infallible>>(QUEUE);
    let mut events = app.control.subscribe();
    let mut shutdown = app.shutdown.clone();
    let open = app.metrics.live_streams;
    tokio::spawn(async move {
        open.inc();
        loop {
            let event = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                () = sender.closed() => break,
                event = events.next() => event,
            };
            let Some(event) = event else { break };
            let Ok(shown) = show(event) else { continue };
            if sender.send(Ok(shown)).await.is_err() {
                break;
            }
        }
        open.dec();
        drop(permit);
    });
    let alive = KeepAlive::new().interval(Duration::from_secs(10));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(alive).into_response())
}

fn show(event: Result<Live, u64>) -> Result<Event, axum::Error> {
    match event {
        Ok(Live::Decision(decision)) => {
            Event::default().event("decision").json_data(Decision::from(&*decision))
        }
        Ok(Live::Workload(view)) => Event::default().event("workload").json_data(Workload::from(*view)),
        Err(missed) => Ok(Event::default().event("missed").data(missed.to_string())),
    }
}
