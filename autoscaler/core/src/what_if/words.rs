//! Why something is not replayed, and what is taken for granted where it is: in words.

use model::workload::{Mode, WorkloadKind, WorkloadSpec};

use super::{Question, Recorded, Subject};

/// Why a workload cannot be replayed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unplayed {
    /// A cluster that keeps its own list of members.
    #[error(
        "members of a {kind} cluster come and go with data and containers of which no history is kept: it is not replayed, and counts \
         with what it uses now"
    )]
    Cluster {
        /// Its kind.
        kind: &'static str,
    },
    /// Nothing was recorded in the range.
    #[error("nothing was recorded of its replicas in this time")]
    NoHistory,
    /// Too little was recorded.
    #[error("only {} of its load are recorded; {} are needed", Spoken(*.covered_ms), Spoken(*.needed_ms))]
    TooShort {
        /// Known, ms.
        covered_ms: u64,
        /// Needed, ms.
        needed_ms: u64,
    },
    /// Its load is counted in requests, and history has CPU.
    #[error(
        "what a request costs of CPU is not learned yet: history has CPU only, so the requests cannot be told from it; it is learned \
         while requests come"
    )]
    NoCost,
    /// Its policy follows measured waits.
    #[error(
        "the policy hpa follows measured queue delays here, and history has none: give it a target of CPU to replay it"
    )]
    NoDelays,
    /// A target that its kind cannot have.
    #[error(
        "a service has no balancer that could measure a queue delay: that target is for workloads of type rails"
    )]
    NoQueue,
    /// A headroom without a peak to add it to.
    #[error("what one replica used at its peak is not recorded: a headroom has nothing to be added to")]
    NoPeak,
    /// Bounds that exclude each other.
    #[error("at least {min} and at most {max} replicas exclude each other")]
    Bounds {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
}

impl Unplayed {
    /// More history is all that is missing: in so many ms at the earliest there is enough.
    #[must_use]
    pub fn enough_in_ms(&self, needed_ms: u64) -> Option<u64> {
        match self {
            Self::NoHistory => Some(needed_ms),
            Self::TooShort { covered_ms, needed_ms } => Some(needed_ms.saturating_sub(*covered_ms)),
            _ => None,
        }
    }
}

/// A length of time in words.
struct Spoken(u64);

impl std::fmt::Display for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 / 1_000 {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7_200 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h", seconds / 3_600),
        }
    }
}

/// What a play takes for granted, in words, most important first.
pub(super) fn assumes(
    subject: &Subject,
    asked: &WorkloadSpec,
    recorded: &Recorded,
    question: &Question,
) -> Vec<String> {
    let spec = &subject.workload.spec;
    let mut words = Vec::new();
    if let (WorkloadKind::Rails, Some(cpu_ms)) = (spec.kind, subject.work.cpu_ms) {
        words.push(format!(
            "requests are told from CPU: {cpu_ms:.1} ms of CPU and {:.1} ms on a thread each, as learned now",
            subject.work.service_ms
        ));
        words.push(
            "a queue that builds up while too few are ready is not played, only that it would".to_owned(),
        );
    }
    words.push(format!(
        "the load is the mean of {} each: shorter peaks are not in it",
        Spoken(recorded.step_ms)
    ));
    words.push("what a CPU quota held back at the time is not in the record".to_owned());
    words.push(format!("a replica is ready {} after its order", Spoken(subject.ready_ms)));
    words.push("both plays begin without a history to forecast from".to_owned());
    if spec.mode != Mode::Auto {
        words.push("it is played as if its mode were auto".to_owned());
    }
    if asked.size.cpu.is_none() {
        words.push("no CPU is given to a replica: it counts as one core, as in decisions".to_owned());
    }
    if question.headroom.is_some() {
        words.push(
            "a replica would have used at its peak what it used then, whatever their number".to_owned(),
        );
    }
    let holes = recorded.extent_ms().saturating_sub(recorded.covered_ms());
    if holes > 0 {
        words.push(format!("{} within the time are not known, and count nowhere", Spoken(holes)));
    }
    words
}
