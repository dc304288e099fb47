//! A request for a fine-tuning job: the numbers, names and files in it.

use serde_json::Value as Json;

use crate::{
    diagnostic::{Diagnostic, excerpt},
    findings::Findings,
    json::{Kind, Parser, Value},
    read::{Method, Profile, ReadOptions},
};

const METHODS: [&str; 3] = ["supervised", "dpo", "reinforcement"];

/// Checks the body of `POST /v1/fine_tuning/jobs`.
///
/// `purpose_of` gives the purpose of an uploaded file by its id; `None`: there is no such file, which is for the
/// caller to say. Line and column of a diagnostic are those of the request written on one line without spaces, so the
/// pointer is what to show.
pub fn check_job(request: &Json, profile: Profile, purpose_of: &dyn Fn(&str) -> Option<String>) -> Vec<Diagnostic> {
    let options = ReadOptions::new(Method::Sft, profile);
    let mut out = Findings::new(&options);
    let text = request.to_string();
    let mut parser = Parser::default();
    let parsed = parser.parse(&text, 0);
    if let Some(request) = parsed.root() {
        check_request(request, purpose_of, &mut out);
    }
    out.resolve(parsed.tree, "request").into_iter().map(|found| found.diagnostic).collect()
}

fn check_request(request: Value, purpose_of: &dyn Fn(&str) -> Option<String>, out: &mut Findings) {
    if let Some(method) = given(request, "method") {
        method_object(method, out);
        for name in METHODS {
            if let Some(hyperparameters) = given(method, name).and_then(|object| given(object, "hyperparameters")) {
                check_hyperparameters(hyperparameters, out);
            }
        }
    }
    if let Some(member) = request.members().filter(|member| member.key.is("hyperparameters")).last()
        && !member.value.is_null()
    {
        hyperparameters_deprecated(member.key, out);
        check_hyperparameters(member.value, out);
    }
    if let Some(suffix) = given(request, "suffix") {
        suffix_length(suffix, out);
    }
    if let Some(seed) = given(request, "seed") {
        seed_range(seed, out);
    }
    for name in ["training_file", "validation_file"] {
        if let Some(file) = given(request, name) {
            file_purpose(file, purpose_of, out);
        }
    }
}

/// A member that is there and not null.
fn given<'t>(object: Value<'t>, name: &str) -> Option<Value<'t>> {
    object.get(name).filter(|value| !value.is_null())
}

/// What a hyperparameter may be, beside `auto`.
enum Range {
    Whole(i64, i64),
    /// More than the first, up to the second.
    Above(f64, f64),
    OneOf(&'static [&'static str]),
}

fn range_of(name: &str) -> Option<Range> {
    Some(match name {
        "n_epochs" => Range::Whole(1, 50),
        "batch_size" => Range::Whole(1, 256),
        "learning_rate_multiplier" => Range::Above(0.0, f64::INFINITY),
        "beta" => Range::Above(0.0, 2.0),
        "compute_multiplier" => Range::Above(0.000_01, 10.0),
        "eval_interval" | "eval_samples" => Range::Whole(1, i64::MAX),
        "reasoning_effort" => Range::OneOf(&["default", "low", "medium", "high"]),
        _ => return None,
    })
}

fn check_hyperparameters(hyperparameters: Value, out: &mut Findings) {
    for member in hyperparameters.members() {
        let name = member.key.text().unwrap_or_default();
        if let Some(range) = range_of(&name).filter(|_| !member.value.is_null()) {
            hyperparameter_range(member.value, &name, &range, out);
        }
    }
}

/// A hyperparameter is outside its range.
///
/// `n_epochs` is 1 to 50, `batch_size` 1 to 256, `learning_rate_multiplier` above 0, `beta` above 0 and up to 2; for
/// reinforcement `compute_multiplier` is above 0.00001 and up to 10, `eval_interval` and `eval_samples` are 1 or more.
/// Each may be `"auto"`; on Azure also -1, which means the same for whole numbers. `reasoning_effort` is `default`,
/// `low`, `medium` or `high`.
fn hyperparameter_range(value: Value, name: &str, range: &Range, out: &mut Findings) {
    if value.is("auto") && !matches!(range, Range::OneOf(_)) {
        return;
    }
    let number = (value.kind() == Kind::Number).then(|| value.raw().parse::<f64>().unwrap_or(f64::NAN));
    let (good, wanted) = match range {
        Range::Whole(from, to) => {
            let automatic = out.options.profile == Profile::Azure && number == Some(-1.0);
            let inside = |number: f64| number.fract() == 0.0 && number >= *from as f64 && number <= *to as f64;
            let wanted = if *to == i64::MAX { format!("{from} or more") } else { format!("{from} to {to}") };
            (automatic || number.is_some_and(inside), format!("`auto` or a whole number, {wanted}"))
        }
        Range::Above(above, to) => {
            let wanted =
                if to.is_finite() { format!("above {above} and up to {to}") } else { format!("above {above}") };
            let inside = |number: f64| number > *above && number <= *to && number.is_finite();
            (number.is_some_and(inside), format!("`auto` or a number {wanted}"))
        }
        Range::OneOf(names) => (
            names.iter().any(|name| value.is(name)),
            format!("one of {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        ),
    };
    if !good {
        out.error(
            "hyperparameter-range",
            value,
            format!("expected `{}` to be {wanted}, found `{}`", excerpt(name), shown(value)),
            "leave it out to have it chosen",
        );
    }
}

fn shown(value: Value) -> String {
    excerpt(value.text().as_deref().unwrap_or(value.raw()))
}

/// The suffix of the model's name is not 1 to 64 characters long.
///
/// Azure takes 18. The suffix becomes part of the name: `ft:BASE:ORGANIZATION:SUFFIX:ID`.
fn suffix_length(suffix: Value, out: &mut Findings) {
    let longest = if out.options.profile == Profile::Azure { 18 } else { 64 };
    let found = match suffix.text().map(|text| text.chars().count()) {
        None => suffix.described().to_owned(),
        Some(count) if (1..=longest).contains(&count) => return,
        Some(count) => count.to_string(),
    };
    out.error(
        "suffix-length",
        suffix,
        format!("expected a suffix of 1 to {longest} characters, found {found}"),
        "shorten it, or leave it out",
    );
}

/// The seed is not a whole number from 0 to 2147483647.
fn seed_range(seed: Value, out: &mut Findings) {
    let good = seed.kind() == Kind::Number && seed.raw().parse::<u32>().is_ok_and(|seed| i32::try_from(seed).is_ok());
    if !good {
        out.error(
            "seed-range",
            seed,
            format!("expected a whole number, 0 to {}, found `{}`", i32::MAX, shown(seed)),
            "give another seed, or leave it out",
        );
    }
}

/// A file of the request was uploaded for another purpose.
///
/// Training and validation files are uploaded with `purpose="fine-tune"`. Upload the file again.
fn file_purpose(file: Value, purpose_of: &dyn Fn(&str) -> Option<String>, out: &mut Findings) {
    let purpose = file.text().and_then(|id| purpose_of(&id));
    if let Some(purpose) = purpose.filter(|purpose| purpose != "fine-tune") {
        out.error(
            "file-purpose",
            file,
            format!("expected a file with purpose `fine-tune`, found `{}`", excerpt(&purpose)),
            "upload the file again with purpose `fine-tune`",
        );
    }
}

/// `method` does not name a method, or has the settings of another one.
///
/// ```json
/// {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}
/// ```
///
/// `type` is `supervised`, `dpo` or `reinforcement`, and the object beside it has the same name.
fn method_object(method: Value, out: &mut Findings) {
    let hint = "write `{\"type\": \"supervised\", \"supervised\": {\"hyperparameters\": {…}}}`";
    if method.kind() != Kind::Object {
        out.error("method-object", method, format!("expected an object, found {}", method.described()), hint);
        return;
    }
    let kind = method.get("type");
    if !kind.is_some_and(|kind| METHODS.iter().any(|name| kind.is(name))) {
        let found = kind.map_or("none".to_owned(), |kind| format!("`{}`", shown(kind)));
        out.error(
            "method-object",
            kind.unwrap_or(method),
            format!("expected type `supervised`, `dpo` or `reinforcement`, found {found}"),
            hint,
        );
        return;
    }
    for name in METHODS {
        let Some(settings) = given(method, name) else { continue };
        if !kind.is_some_and(|kind| kind.is(name)) {
            out.error(
                "method-object",
                settings,
                format!("expected only settings of the method that `type` names, found `{name}`"),
                "name the method in `type`, or delete these settings",
            );
        } else if settings.kind() != Kind::Object {
            let message = format!("expected `{name}` to be an object, found {}", settings.described());
            out.error("method-object", settings, message, hint);
        }
    }
}

/// `hyperparameters` stands beside `method`, which is deprecated.
///
/// It still counts for supervised jobs. Move it into `method`.
fn hyperparameters_deprecated(key: Value, out: &mut Findings) {
    out.warning(
        "hyperparameters-deprecated",
        key,
        "expected hyperparameters inside `method`, found them beside it, which is deprecated",
        "write `\"method\": {\"type\": \"supervised\", \"supervised\": {\"hyperparameters\": {…}}}`",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(profile: Profile, requests: &[&str], expect: Expect) {
        let purpose_of = |id: &str| match id {
            "file-1" => Some("fine-tune".to_owned()),
            "file-2" => Some("batch".to_owned()),
            _ => None,
        };
        let mut shown = String::new();
        for (index, request) in requests.iter().enumerate() {
            for diagnostic in check_job(&serde_json::from_str(request).unwrap(), profile, &purpose_of) {
                let Diagnostic { rule, severity, pointer, message, .. } = diagnostic;
                shown += &format!("{}: {}[{rule}] {pointer}: {message}\n", index + 1, severity.as_str());
            }
        }
        expect.assert_eq(&shown);
    }

    #[test]
    fn a_good_request_is_left_alone() {
        check(
            Profile::OpenAi,
            &[
                r#"{"model":"m","training_file":"file-1"}"#,
                r#"{"model":"m","training_file":"file-1","validation_file":null,"suffix":null,"seed":2147483647,"method":null,"hyperparameters":null}"#,
                r#"{"model":"m","training_file":"file-0","suffix":"añ","seed":0,"method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":"auto","batch_size":256,"learning_rate_multiplier":0.05}},"dpo":null}}"#,
                r#"{"method":{"type":"dpo","dpo":{"hyperparameters":{"beta":2,"n_epochs":50}}}}"#,
                r#"{"method":{"type":"reinforcement","reinforcement":{"grader":{},"hyperparameters":{"reasoning_effort":"low","compute_multiplier":10,"eval_interval":1,"eval_samples":"auto"}}}}"#,
                "[]",
            ],
            expect![[""]],
        );
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        check(
            Profile::OpenAi,
            &[
                r#"{"method":{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":0,"batch_size":257,"learning_rate_multiplier":0}}}}"#,
                r#"{"method":{"type":"dpo","dpo":{"hyperparameters":{"beta":2.1,"n_epochs":1.5,"batch_size":"8"}}}}"#,
                r#"{"method":{"type":"reinforcement","reinforcement":{"hyperparameters":{"reasoning_effort":"max","compute_multiplier":0.00001,"eval_samples":0}}}}"#,
                r#"{"seed":2147483648}"#,
                r#"{"seed":-1}"#,
                r#"{"seed":1.0}"#,
                r#"{"seed":"1"}"#,
            ],
            expect![[r#"
                1: error[hyperparameter-range] /method/supervised/hyperparameters/n_epochs: expected `n_epochs` to be `auto` or a whole number, 1 to 50, found `0`
                1: error[hyperparameter-range] /method/supervised/hyperparameters/batch_size: expected `batch_size` to be `auto` or a whole number, 1 to 256, found `257`
                1: error[hyperparameter-range] /method/supervised/hyperparameters/learning_rate_multiplier: expected `learning_rate_multiplier` to be `auto` or a number above 0, found `0`
                2: error[hyperparameter-range] /method/dpo/hyperparameters/beta: expected `beta` to be `auto` or a number above 0 and up to 2, found `2.1`
                2: error[hyperparameter-range] /method/dpo/hyperparameters/n_epochs: expected `n_epochs` to be `auto` or a whole number, 1 to 50, found `1.5`
                2: error[hyperparameter-range] /method/dpo/hyperparameters/batch_size: expected `batch_size` to be `auto` or a whole number, 1 to 256, found `8`
                3: error[hyperparameter-range] /method/reinforcement/hyperparameters/reasoning_effort: expected `reasoning_effort` to be one of `default`, `low`, `medium`, `high`, found `max`
                3: error[hyperparameter-range] /method/reinforcement/hyperparameters/compute_multiplier: expected `compute_multiplier` to be `auto` or a number above 0.00001 and up to 10, found `0.00001`
                3: error[hyperparameter-range] /method/reinforcement/hyperparameters/eval_samples: expected `eval_samples` to be `auto` or a whole number, 1 or more, found `0`
                4: error[seed-range] /seed: expected a whole number, 0 to 2147483647, found `2147483648`
                5: error[seed-range] /seed: expected a whole number, 0 to 2147483647, found `-1`
                6: error[seed-range] /seed: expected a whole number, 0 to 2147483647, found `1.0`
                7: error[seed-range] /seed: expected a whole number, 0 to 2147483647, found `1`
            "#]],
        );
    }

    #[test]
    fn a_suffix_has_its_length() {
        let requests = ["", &"x".repeat(18), &"x".repeat(19), &"é".repeat(64), &"x".repeat(65)]
            .map(|suffix| format!(r#"{{"suffix":"{suffix}"}}"#));
        let requests = requests.each_ref().map(String::as_str);
        check(
            Profile::OpenAi,
            &requests,
            expect![[r#"
            1: error[suffix-length] /suffix: expected a suffix of 1 to 64 characters, found 0
            5: error[suffix-length] /suffix: expected a suffix of 1 to 64 characters, found 65
        "#]],
        );
        check(
            Profile::Azure,
            &requests,
            expect![[r#"
            1: error[suffix-length] /suffix: expected a suffix of 1 to 18 characters, found 0
            3: error[suffix-length] /suffix: expected a suffix of 1 to 18 characters, found 19
            4: error[suffix-length] /suffix: expected a suffix of 1 to 18 characters, found 64
            5: error[suffix-length] /suffix: expected a suffix of 1 to 18 characters, found 65
        "#]],
        );
        check(
            Profile::OpenAi,
            &[r#"{"suffix":7}"#],
            expect![[r#"
            1: error[suffix-length] /suffix: expected a suffix of 1 to 64 characters, found a number
        "#]],
        );
    }

    #[test]
    fn azure_chooses_at_minus_one() {
        let request = r#"{"hyperparameters":{"n_epochs":-1,"batch_size":-1,"learning_rate_multiplier":-1}}"#;
        check(
            Profile::Azure,
            &[request],
            expect![[r#"
            1: warning[hyperparameters-deprecated] /hyperparameters: expected hyperparameters inside `method`, found them beside it, which is deprecated
            1: error[hyperparameter-range] /hyperparameters/learning_rate_multiplier: expected `learning_rate_multiplier` to be `auto` or a number above 0, found `-1`
        "#]],
        );
        check(
            Profile::OpenAi,
            &[request],
            expect![[r#"
            1: warning[hyperparameters-deprecated] /hyperparameters: expected hyperparameters inside `method`, found them beside it, which is deprecated
            1: error[hyperparameter-range] /hyperparameters/n_epochs: expected `n_epochs` to be `auto` or a whole number, 1 to 50, found `-1`
            1: error[hyperparameter-range] /hyperparameters/batch_size: expected `batch_size` to be `auto` or a whole number, 1 to 256, found `-1`
            1: error[hyperparameter-range] /hyperparameters/learning_rate_multiplier: expected `learning_rate_multiplier` to be `auto` or a number above 0, found `-1`
        "#]],
        );
    }

    #[test]
    fn files_and_methods_are_what_they_should_be() {
        check(
            Profile::OpenAi,
            &[
                r#"{"training_file":"file-2","validation_file":"file-2"}"#,
                r#"{"method":"dpo"}"#,
                r#"{"method":{"supervised":{}}}"#,
                r#"{"method":{"type":"sft"}}"#,
                r#"{"method":{"type":"dpo","supervised":{"hyperparameters":{"n_epochs":0}}}}"#,
                r#"{"method":{"type":"dpo","dpo":[]}}"#,
            ],
            expect![[r#"
                1: error[file-purpose] /training_file: expected a file with purpose `fine-tune`, found `batch`
                1: error[file-purpose] /validation_file: expected a file with purpose `fine-tune`, found `batch`
                2: error[method-object] /method: expected an object, found a string
                3: error[method-object] /method: expected type `supervised`, `dpo` or `reinforcement`, found none
                4: error[method-object] /method/type: expected type `supervised`, `dpo` or `reinforcement`, found `sft`
                5: error[method-object] /method/supervised: expected only settings of the method that `type` names, found `supervised`
                5: error[hyperparameter-range] /method/supervised/hyperparameters/n_epochs: expected `n_epochs` to be `auto` or a whole number, 1 to 50, found `0`
                6: error[method-object] /method/dpo: expected `dpo` to be an object, found an array
            "#]],
        );
    }
}
