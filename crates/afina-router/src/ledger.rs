//! Where the tokens of an answer went.

use serde::Serialize;

use crate::client::Usage;

/// Every call made for one question, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    pub calls: Vec<Call>,
}

/// One call of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    pub purpose: Purpose,
    /// A name under `[models]`.
    pub model: String,
    pub usage: Usage,
}

/// What a call was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Choosing the agent: nothing of it is shown.
    Route,
    /// This agent's part of the visible answer.
    Agent(String),
}

/// The ledger in three numbers, which sum to what the servers reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Prompt tokens of the first call: what the user's question became.
    pub input: usize,
    /// Completion tokens of the visible answer.
    pub output: usize,
    /// All the rest: tokens that scored labels, and the prompts of every later call.
    pub reasoning: usize,
    /// Sum of the servers' `total_tokens`.
    pub total: usize,
    pub calls: usize,
}

impl Ledger {
    pub(crate) fn add(&mut self, purpose: Purpose, model: &str, usage: Usage) {
        self.calls.push(Call { purpose, model: model.to_string(), usage });
    }

    /// Adds up the calls, each number by itself: none is the difference of the others.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { calls: self.calls.len(), ..Totals::default() };
        for (index, Call { purpose, usage, .. }) in self.calls.iter().enumerate() {
            totals.total += usage.total_tokens;
            let prompt = if index == 0 { &mut totals.input } else { &mut totals.reasoning };
            *prompt += usage.prompt_tokens;
            let completion = match purpose {
                Purpose::Agent(_) => &mut totals.output,
                Purpose::Route => &mut totals.reasoning,
            };
            *completion += usage.completion_tokens;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(calls: &[(Purpose, usize, usize)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (purpose, prompt_tokens, completion_tokens) in calls.iter().cloned() {
            let total_tokens = prompt_tokens + completion_tokens;
            ledger.add(purpose, "m", Usage { prompt_tokens, completion_tokens, total_tokens });
        }
        ledger
    }

    #[test]
    fn routing_is_reasoning_and_the_answer_is_output() {
        let agent = || Purpose::Agent("ventas".to_string());
        let totals = ledger(&[(Purpose::Route, 20, 12), (agent(), 40, 30), (agent(), 50, 5)]).totals();
        assert_eq!(totals, Totals { input: 20, output: 35, reasoning: 12 + 40 + 50, total: 157, calls: 3 });
        let totals = ledger(&[(agent(), 40, 30)]).totals();
        assert_eq!(totals, Totals { input: 40, output: 30, reasoning: 0, total: 70, calls: 1 });
        assert_eq!(ledger(&[]).totals(), Totals::default());
    }

    #[test]
    fn the_three_parts_sum_to_the_servers_usage() {
        let mut state = 1_usize;
        let mut next = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for _ in 0..500 {
            let calls: Vec<_> = (0..next(6))
                .map(|_| {
                    (if next(2) == 0 { Purpose::Route } else { Purpose::Agent("a".into()) }, next(1_000), next(1_000))
                })
                .collect();
            let totals = ledger(&calls).totals();
            assert_eq!(totals.input + totals.output + totals.reasoning, totals.total);
        }
    }
}
