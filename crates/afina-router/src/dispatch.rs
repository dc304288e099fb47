//! The chosen agents answer.

use serde::Serialize;

use crate::{
    client::Clients,
    decide::{Decision, RouteError, check_steps, conversation},
    ledger::{Ledger, Purpose},
    routes::Routes,
};

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dispatch {
    /// What the user reads: one agent's answer as it is, several under a heading each.
    pub text: String,
    /// In the order of the decision's agents.
    pub replies: Vec<Reply>,
}

/// One agent's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    pub agent: String,
    pub text: String,
    /// `length`: it was cut at the agent's `max_tokens`.
    pub finish_reason: String,
}

/// Asks each agent the whole question and puts the answers one below the other; no model rewrites them.
///
/// More calls than `limits.steps` allows, those already in the ledger included, are refused before the first is made.
pub fn dispatch(
    routes: &Routes,
    clients: &Clients,
    question: &str,
    decision: &Decision,
    ledger: &mut Ledger,
) -> Result<Dispatch, RouteError> {
    check_steps(routes, ledger, decision.agents.len())?;
    let mut replies = Vec::new();
    for name in &decision.agents {
        let agent = &routes.agents[name];
        let client = clients.get(&agent.model).ok_or_else(|| RouteError::NoClient { model: agent.model.clone() })?;
        let id = &routes.models[&agent.model].model;
        let conversation = conversation(agent.system.as_deref(), question);
        let reply = client
            .chat(id, &conversation, agent.max_tokens, agent.temperature)
            .map_err(|source| RouteError::Client { model: agent.model.clone(), source })?;
        ledger.add(Purpose::Agent(name.clone()), &agent.model, reply.usage);
        replies.push(Reply { agent: name.clone(), text: reply.text, finish_reason: reply.finish_reason });
    }
    let text = match &replies[..] {
        [only] => only.text.clone(),
        several => {
            let parts: Vec<String> =
                several.iter().map(|reply| format!("## {}\n\n{}", reply.agent, reply.text.trim())).collect();
            parts.join("\n\n")
        }
    };
    Ok(Dispatch { text, replies })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::decide,
        ledger::Totals,
        testing::{Scripted, clients, routes},
    };

    const BOTH: &str = r#"
        multi = "all"
        [[routes]]
        agent = "ventas"
        when = { words = ["precio"] }
        [[routes]]
        agent = "envios"
        when = { words = ["pedido"] }
    "#;

    fn run(toml: &str, scripted: Scripted, question: &str) -> (Result<Dispatch, RouteError>, Ledger) {
        let (routes, clients, mut ledger) = (routes(toml), clients(scripted), Ledger::default());
        let decision = decide(&routes, &clients, question, &mut ledger).unwrap();
        (dispatch(&routes, &clients, question, &decision, &mut ledger), ledger)
    }

    #[test]
    fn one_answer_is_shown_as_it_is() {
        let (answer, ledger) = run(BOTH, Scripted::new().answers(["Cuesta 5."]), "¿precio?");
        assert_eq!(answer.unwrap().text, "Cuesta 5.");
        assert_eq!(ledger.totals(), Totals { input: 100, output: 7, reasoning: 0, total: 107, calls: 1 });
    }

    #[test]
    fn several_answers_come_under_headings_in_the_order_of_mention() {
        let scripted = Scripted::new().answers(["Llega hoy.\n", "Cuesta 5."]);
        let seen = scripted.seen();
        let (answer, ledger) = run(BOTH, scripted, "Mi pedido, ¿y el precio?");
        assert_eq!(answer.unwrap().text, "## envios\n\nLlega hoy.\n\n## ventas\n\nCuesta 5.");
        assert_eq!(
            seen.borrow()[..],
            [
                "chat id-of-m user:Mi pedido, ¿y el precio? max none",
                "chat id-of-m system:Vendes. user:Mi pedido, ¿y el precio? max 50",
            ]
        );
        assert_eq!(ledger.totals(), Totals { input: 100, output: 14, reasoning: 100, total: 214, calls: 2 });
    }

    #[test]
    fn a_model_that_routes_is_reasoning() {
        let toml = "[route_model]\nmodel = \"m\"\nlabels = [\"ventas\", \"envios\"]";
        let (answer, ledger) = run(toml, Scripted::new().scores([-1.0, -2.0]).answers(["Cuesta 5."]), "¿precio?");
        assert_eq!(answer.unwrap().replies[0].agent, "ventas");
        // Scoring: 100 in the prompt, 9 in the labels; answering: 100 and 7.
        assert_eq!(ledger.totals(), Totals { input: 100, output: 7, reasoning: 109, total: 216, calls: 2 });
    }

    #[test]
    fn more_calls_than_allowed_are_refused_before_the_first() {
        let scripted = Scripted::new().answers(["a", "b"]);
        let seen = scripted.seen();
        let (answer, ledger) = run(&format!("{BOTH}\n[limits]\nsteps = 1"), scripted, "pedido y precio");
        let message = "the question needs 2 model calls, and `limits.steps` allows 1";
        assert_eq!(answer.unwrap_err().to_string(), message);
        assert!(seen.borrow().is_empty() && ledger.calls.is_empty());
    }
}
