//! Labelled cases through the router.

use crate::{
    cases::Case,
    client::Clients,
    decide::{RouteError, decide},
    ledger::Ledger,
    problem::did_you_mean,
    report::{CaseResult, Report},
    routes::Routes,
};

/// Why cases could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("line {line}: no agent `{route}` in the routes{hint}")]
    UnknownRoute { line: usize, route: String, hint: String },
    #[error("line {line}: failed to route the question")]
    Route { line: usize, source: RouteError },
}

/// Decides every case and reports how many go where they should; the agents do not answer.
///
/// Every route is looked up before the first model call. `progress` gets the number of cases done and of all.
pub fn check(
    routes: &Routes,
    clients: &Clients,
    cases: &[Case],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report, CheckError> {
    for case in cases {
        if let Some(route) = case.route.iter().find(|route| !routes.agents.contains_key(*route)) {
            let hint = did_you_mean(route, routes.agents.keys().map(String::as_str));
            let hint = if hint.is_empty() { hint } else { format!(": {hint}") };
            return Err(CheckError::UnknownRoute { line: case.line, route: route.clone(), hint });
        }
    }
    let mut results = Vec::with_capacity(cases.len());
    for (index, case) in cases.iter().enumerate() {
        let mut ledger = Ledger::default();
        let decision = decide(routes, clients, &case.question, &mut ledger)
            .map_err(|source| CheckError::Route { line: case.line, source })?;
        results.push(CaseResult::new(case, decision, ledger.totals()));
        progress(index + 1, cases.len());
    }
    Ok(Report::new(results))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cases::read_cases,
        ledger::Totals,
        testing::{Scripted, clients, routes},
    };

    const MODEL: &str = "[route_model]\nmodel = \"m\"\nlabels = [\"ventas\", \"envios\"]\n";

    #[test]
    fn cases_are_decided_and_counted() {
        let cases = read_cases(concat!(
            "{\"q\":\"¿precio?\",\"route\":\"ventas\"}\n{\"q\":\"¿y mi caja?\",\"route\":\"envios\"}\n",
            "{\"q\":\"hola\",\"route\":\"recepcion\"}",
        ));
        let scripted = Scripted::new().scores([-1.0, -2.0]).scores([-2.0, -1.0]).scores([-2.0, -1.0]);
        let mut seen = Vec::new();
        let mut progress = |done, all| seen.push((done, all));
        let report = check(&routes(MODEL), &clients(scripted), &cases.unwrap(), &mut progress).unwrap();
        assert_eq!((report.total.correct, report.total.cases), (2, 3));
        assert_eq!(seen, [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(report.tokens, Totals { input: 300, output: 0, reasoning: 27, total: 327, calls: 3 });
        assert_eq!(report.cases[2].chosen, ["envios"]);
    }

    #[test]
    fn a_route_that_no_agent_has_is_found_before_any_call() {
        let cases = read_cases("{\"q\":\"a\",\"route\":\"ventas\"}\n{\"q\":\"b\",\"route\":\"venta\"}").unwrap();
        let scripted = Scripted::new();
        let seen = scripted.seen();
        let error = check(&routes(MODEL), &clients(scripted), &cases, &mut |_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "line 2: no agent `venta` in the routes: did you mean `ventas`?");
        assert!(seen.borrow().is_empty());
    }

    #[test]
    fn a_call_that_fails_names_the_case() {
        let cases = read_cases("{\"q\":\"a\",\"route\":\"ventas\"}").unwrap();
        let error = check(&routes(MODEL), &clients(Scripted::new()), &cases, &mut |_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "line 1: failed to route the question");
    }
}
