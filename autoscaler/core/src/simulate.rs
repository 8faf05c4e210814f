//! The scoring games, line by line: adapters from what the judge sends to the engine's own parts.
//!
//! `replicas` feeds [`crate::forecast`], [`crate::horizontal`] and [`crate::stabilise`]; `resize` feeds
//! [`crate::estimate`]. Nothing is decided here: an adapter translates units and the knob, so that a score is a score of
//! the product. Each line but the last has exactly one answer.

mod replicas;
mod resize;

use serde::Deserialize;
use serde_json::Value;

/// Why a line cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum GameError {
    /// Not the JSON that is expected.
    #[error("line {line} is not what the game sends")]
    Malformed {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A game that is not played.
    #[error("the game {0:?} is not played: replicas and resize are")]
    UnknownGame(String),
    /// A step before the start, or of another kind.
    #[error("line {line}: {kind:?} was not expected here")]
    Unexpected {
        /// Its number, from 1.
        line: u64,
        /// Its type.
        kind: String,
    },
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    game: Option<String>,
}

enum Player {
    Waiting,
    Replicas(Box<replicas::Replicas>),
    Resize(Box<resize::Resize>),
}

/// One episode.
pub struct Game {
    player: Player,
    line: u64,
}

impl Default for Game {
    fn default() -> Self {
        Self::new()
    }
}

impl Game {
    /// A game that waits for its start.
    #[must_use]
    pub fn new() -> Self {
        Self { player: Player::Waiting, line: 0 }
    }

    /// The answer to one line; `None` at the end.
    ///
    /// # Errors
    /// [`GameError`] when the line is not what a game sends.
    pub fn answer(&mut self, text: &str) -> Result<Option<String>, GameError> {
        self.line += 1;
        let line = self.line;
        let malformed = |source| GameError::Malformed { line, source };
        let header: Header = serde_json::from_str(text).map_err(malformed)?;
        let reply: Value = match (header.kind.as_str(), &mut self.player) {
            ("end", _) => return Ok(None),
            ("start", Player::Waiting) => {
                let game = header.game.unwrap_or_default();
                self.player = match game.as_str() {
                    "replicas" => {
                        let start = serde_json::from_str(text).map_err(malformed)?;
                        Player::Replicas(Box::new(replicas::Replicas::new(&start)))
                    }
                    "resize" => {
                        let start = serde_json::from_str(text).map_err(malformed)?;
                        Player::Resize(Box::new(resize::Resize::new(start)))
                    }
                    _ => return Err(GameError::UnknownGame(game)),
                };
                Value::Object(serde_json::Map::new())
            }
            ("step", Player::Replicas(player)) => {
                player.step(&serde_json::from_str(text).map_err(malformed)?)
            }
            ("step", Player::Resize(player)) => player.step(&serde_json::from_str(text).map_err(malformed)?),
            (kind, _) => return Err(GameError::Unexpected { line, kind: kind.to_owned() }),
        };
        Ok(Some(reply.to_string()))
    }
}

/// Between the values at 0, ¼, ½, ¾ and 1, on a logarithmic scale.
fn at_knob(knob: f64, values: [f64; 5]) -> f64 {
    let place = knob.clamp(0.0, 1.0) * 4.0;
    let low = (place as usize).min(3);
    values[low] * (values[low + 1] / values[low]).powf(place - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_answers_each_line_and_follows_load() {
        let mut game = Game::new();
        let start = r#"{"type":"start","game":"replicas","step_s":15,"knob":0.5,"boot_s":120,"drain_s":30,
            "slo_utilization":0.8,"replica_rps":50.0,"min":2,"max":250,"ready":7,"warmup_steps":40}"#;
        assert_eq!(game.answer(start).unwrap().as_deref(), Some("{}"));
        let mut last = 0;
        for step in 0..100 {
            let line = format!(
                r#"{{"type":"step","step":{step},"t":{},"requests":6000,"dropped":0,"ready":10,"starting":0,"draining":0,"utilization":0.8,"queue_ms":3}}"#,
                step * 15
            );
            let reply: Value = serde_json::from_str(&game.answer(&line).unwrap().unwrap()).unwrap();
            last = reply["replicas"].as_u64().unwrap();
        }
        assert!((10..=12).contains(&last), "{last}");
        assert!(game.answer(r#"{"type":"end"}"#).unwrap().is_none());
        assert!(game.answer("{").is_err());
    }
}
