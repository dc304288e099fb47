//! A decision in words.

use crate::decide::{Decision, Outcome, Reason};

/// The trace, a line a rule, then the scores if a model was asked, then the agents.
pub fn explain(decision: &Decision) -> String {
    let mut lines = Vec::new();
    for step in &decision.trace {
        let kind = match step.reason {
            Reason::Word => "words",
            Reason::Regex => "regex",
            Reason::Model => "model",
            Reason::Default => "default",
        };
        let outcome = match &step.outcome {
            Outcome::NoMatch => "no match".to_string(),
            Outcome::Matched { span } => format!("matched `{}` at bytes {}..{}", span.text, span.start, span.end),
            Outcome::Chose { probability } => format!("chosen with p = {probability:.3}"),
            Outcome::Abstained { probability, min_probability } => {
                format!("abstained: p = {probability:.3} is below {min_probability}")
            }
            Outcome::FellThrough => "no rule claimed the question".to_string(),
        };
        let rule = if step.rule == kind { step.rule.clone() } else { format!("{} {kind}", step.rule) };
        lines.push(format!("{rule} → {}: {outcome}", step.agent));
    }
    for score in decision.scores.iter().flatten() {
        lines.push(format!("    {:<14} log p = {:>9.3}   p = {:.3}", score.label, score.logprob, score.probability));
    }
    lines.push(format!("→ {} (by {})", decision.agents.join(", "), decision.rule));
    lines.join("\n")
}
