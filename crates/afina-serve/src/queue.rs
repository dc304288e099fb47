//! The bounded line of requests in front of the engine.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::engine::{EngineError, FinishReason, GenerateRequest, ScoreRequest, Scored};

/// A request, and where its answer goes.
pub(crate) enum Job {
    Generate { request: GenerateRequest, events: UnboundedSender<GenerateEvent> },
    Score { request: ScoreRequest, reply: oneshot::Sender<Result<Scored, EngineError>> },
}

impl Job {
    /// Whether the client hung up: nobody reads the answer any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Job::Generate { events, .. } => events.is_closed(),
            Job::Score { reply, .. } => reply.is_closed(),
        }
    }
}

/// What the worker tells of a generation: texts, then one `Done` or `Failed`.
#[derive(Debug)]
pub(crate) enum GenerateEvent {
    Text(String),
    Done { finish_reason: FinishReason, prompt_tokens: usize, completion_tokens: usize },
    Failed(EngineError),
}

/// No place left.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) waiting: usize,
    /// When a place may come free: as long as the last request took, in whole seconds from 1 to 60.
    pub(crate) retry_after: Duration,
}

/// Makes the two ends of a queue in which at most `limit` requests wait (at least 1), besides the one being answered.
pub(crate) fn queue(limit: usize) -> (Submitter, Jobs) {
    let shared = Arc::new(Shared {
        limit: limit.max(1),
        state: Mutex::new(State { waiting: VecDeque::new(), open: true, last_job: Duration::ZERO }),
        changed: Condvar::new(),
    });
    (Submitter { shared: Arc::clone(&shared) }, Jobs { shared })
}

struct Shared {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Job>,
    open: bool,
    last_job: Duration,
}

impl Shared {
    /// The state stays consistent at every step, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that takes requests; dropping it ends the worker once the line is empty.
pub(crate) struct Submitter {
    shared: Arc<Shared>,
}

impl Submitter {
    /// Queues a job. Jobs whose client hung up give their place away.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Full> {
        let mut state = self.shared.lock();
        if state.waiting.len() >= self.shared.limit {
            state.waiting.retain(|job| !job.is_abandoned());
        }
        if state.waiting.len() >= self.shared.limit {
            let seconds = state.last_job.as_secs_f64().ceil().clamp(1.0, 60.0);
            return Err(Full { waiting: state.waiting.len(), retry_after: Duration::from_secs(seconds as u64) });
        }
        state.waiting.push_back(job);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        self.shared.lock().open = false;
        self.shared.changed.notify_one();
    }
}

/// The worker's end.
pub(crate) struct Jobs {
    shared: Arc<Shared>,
}

impl Jobs {
    /// Waits for the next job that somebody still wants; `None` when the submitter is gone and the line is empty.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = self.shared.lock();
        loop {
            while let Some(job) = state.waiting.pop_front() {
                if !job.is_abandoned() {
                    return Some(job);
                }
            }
            if !state.open {
                return None;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes how long a job took, for the next [`Full::retry_after`].
    pub(crate) fn note_duration(&self, duration: Duration) {
        self.shared.lock().last_job = duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conversation;

    fn job(model: &str) -> (Job, oneshot::Receiver<Result<Scored, EngineError>>) {
        let (reply, answer) = oneshot::channel();
        let request =
            ScoreRequest { model: model.to_string(), conversation: conversation("hola"), continuations: Vec::new() };
        (Job::Score { request, reply }, answer)
    }

    fn model(job: Option<Job>) -> Option<String> {
        match job {
            Some(Job::Score { request, .. }) => Some(request.model),
            Some(Job::Generate { request, .. }) => Some(request.model),
            None => None,
        }
    }

    #[test]
    fn jobs_come_out_in_the_order_they_came_in() {
        let (submitter, jobs) = queue(2);
        let (first, _a) = job("a");
        let (second, _b) = job("b");
        submitter.submit(first).unwrap();
        submitter.submit(second).unwrap();
        assert_eq!(model(jobs.next()).as_deref(), Some("a"));
        assert_eq!(model(jobs.next()).as_deref(), Some("b"));
    }

    #[test]
    fn a_full_queue_says_when_to_try_again() {
        let (submitter, jobs) = queue(1);
        let (first, _a) = job("a");
        let (second, _b) = job("b");
        submitter.submit(first).unwrap();
        jobs.note_duration(Duration::from_millis(2_100));
        let full = submitter.submit(second).unwrap_err();
        assert_eq!((full.waiting, full.retry_after), (1, Duration::from_secs(3)));
    }

    #[test]
    fn an_abandoned_job_gives_its_place_away_and_is_never_run() {
        let (submitter, jobs) = queue(1);
        let (first, gone) = job("a");
        let (second, _b) = job("b");
        submitter.submit(first).unwrap();
        drop(gone);
        submitter.submit(second).unwrap();
        assert_eq!(model(jobs.next()).as_deref(), Some("b"));
    }

    #[test]
    fn the_worker_ends_when_the_submitter_is_gone() {
        let (submitter, jobs) = queue(1);
        let (first, _a) = job("a");
        submitter.submit(first).unwrap();
        drop(submitter);
        assert_eq!(model(jobs.next()).as_deref(), Some("a"));
        assert!(jobs.next().is_none());
    }
}
