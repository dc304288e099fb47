//! The thread that owns the engine.

use std::{
    any::Any,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    engine::{Engine, EngineError, FinishReason, GenerateRequest},
    queue::{GenerateEvent, Job, Jobs},
    stop::StopFilter,
};

/// Answers jobs one after the other until the queue closes.
pub(crate) fn work(mut engine: impl Engine, jobs: &Jobs) {
    while let Some(job) = jobs.next() {
        let started = Instant::now();
        match job {
            Job::Generate { request, events } => generate(&mut engine, &request, &events),
            Job::Score { request, reply } => {
                let result = catch_unwind(AssertUnwindSafe(|| engine.score(&request)));
                // A failed send means that the client hung up, which is no failure of ours.
                let _ = reply.send(result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
            }
        }
        jobs.note_duration(started.elapsed());
    }
}

/// Sends the visible text as it grows, then the end. Whole and streamed answers both come from here.
fn generate(engine: &mut impl Engine, request: &GenerateRequest, events: &UnboundedSender<GenerateEvent>) {
    let mut filter = StopFilter::new(&request.stop);
    let mut received = String::new();
    let mut broken = false;
    let mut on_text = |piece: &str| {
        received.push_str(piece);
        show(filter.push(piece), events);
        broken = broken || filter.stopped() || events.is_closed();
        if broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let result = catch_unwind(AssertUnwindSafe(|| engine.generate(request, &mut on_text)));
    let end = match result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
        Ok(generated) if !broken && !generated.text.starts_with(&received) => GenerateEvent::Failed(
            EngineError::Internal("the engine's text differs from the pieces it gave".to_string()),
        ),
        Ok(generated) => {
            if !broken {
                show(filter.push(&generated.text[received.len()..]), events);
            }
            show(filter.finish(), events);
            GenerateEvent::Done {
                finish_reason: if filter.stopped() { FinishReason::Stop } else { generated.finish_reason },
                prompt_tokens: generated.prompt_tokens,
                completion_tokens: generated.completion_tokens,
            }
        }
        Err(error) => GenerateEvent::Failed(error),
    };
    let _ = events.send(end);
}

fn show(text: String, events: &UnboundedSender<GenerateEvent>) {
    if !text.is_empty() {
        let _ = events.send(GenerateEvent::Text(text));
    }
}

fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    EngineError::Internal(format!("the engine panicked: {}", message.unwrap_or("no message")))
}
