//! Which rules can be mended, and how: a row for each.

mod content;
mod images;
mod messages;
mod preference;
mod prose;
mod record;
mod tools;

use super::{
    mend::{Context, Mend},
    note::Safety::{self, Safe, Unsafe},
};

type Fix = fn(&Context) -> Option<Mend>;

/// Mended before a record is JSON: in its bytes, its lines, its syntax.
const BEFORE_RECORDS: [(&str, Safety); 22] = [
    ("file-utf16", Safe),
    ("file-not-utf8", Safe),
    ("file-bom", Safe),
    ("bom-mid-file", Safe),
    ("bare-cr-line-endings", Safe),
    ("blank-line", Safe),
    ("trailing-blank-lines", Safe),
    ("json-array-file", Safe),
    ("pretty-printed-json", Safe),
    ("multiple-objects-on-line", Safe),
    ("comma-between-lines", Safe),
    ("trailing-comma", Safe),
    ("python-dict-repr", Safe),
    ("json-comments", Safe),
    ("unescaped-control-char", Safe),
    ("unescaped-quote", Safe),
    ("invalid-escape", Safe),
    ("truncated-line", Unsafe),
    ("invalid-json", Safe),
    ("nan-infinity", Safe),
    ("lone-surrogate", Safe),
    // What follows them needs a whole file.
    ("duplicate-example", Unsafe),
];

/// The safety is that of the usual case: a fix says itself what it takes.
const RECORDS: &[(&str, Safety, Fix)] = &[
    ("record-not-object", Safe, record::record_not_object),
    ("duplicate-key", Safe, record::duplicate_key),
    ("missing-messages", Safe, record::missing_messages),
    ("unknown-top-level-key", Unsafe, record::unknown_key),
    ("messages-not-array", Safe, record::messages_not_array),
    ("messages-is-string", Safe, record::decode_string),
    ("messages-empty", Unsafe, record::messages_empty),
    ("missing-assistant-message", Unsafe, messages::missing_assistant_message),
    ("message-not-object", Safe, record::message_not_object),
    ("missing-role", Safe, messages::missing_role),
    ("unknown-role", Safe, messages::unknown_role),
    ("developer-role", Safe, messages::developer_role),
    ("rft-system-role", Safe, messages::rft_system_role),
    ("unknown-message-key", Unsafe, record::unknown_key),
    ("name-invalid", Safe, messages::name_invalid),
    ("weight-invalid", Safe, messages::weight_invalid),
    ("weight-on-non-assistant", Safe, messages::weight_on_non_assistant),
    ("last-message-not-assistant", Unsafe, messages::last_message_not_assistant),
    ("last-assistant-weight-zero", Unsafe, messages::last_assistant_weight_zero),
    ("all-weights-zero", Unsafe, messages::all_weights_zero),
    ("rft-last-not-user", Unsafe, messages::rft_last_not_user),
    ("missing-content", Safe, content::missing_content),
    ("null-content", Unsafe, content::null_content),
    ("content-not-string", Safe, content::content_not_string),
    ("content-object", Safe, content::content_object),
    ("content-array-empty", Unsafe, content::no_content),
    ("empty-content", Unsafe, content::no_content),
    ("whitespace-content", Unsafe, content::no_content),
    ("part-not-object", Safe, content::part_not_object),
    ("part-type-missing", Safe, content::part_type_missing),
    ("part-type-unknown", Safe, content::part_type_unknown),
    ("text-part-invalid", Safe, content::text_part_invalid),
    ("tool-content-array", Safe, content::tool_content_array),
    ("special-token-in-content", Unsafe, prose::special_token_in_content),
    ("assistant-edge-whitespace", Unsafe, prose::assistant_edge_whitespace),
    ("nul-char", Unsafe, prose::nul_char),
    ("mojibake", Unsafe, prose::mojibake),
    ("tools-not-array", Safe, tools::tools_not_array),
    ("tool-type-invalid", Safe, tools::type_function),
    ("tool-flat-format", Safe, tools::tool_flat_format),
    ("duplicate-tool-name", Safe, tools::duplicate_tool_name),
    ("tool-parameters-invalid", Safe, tools::tool_parameters_invalid),
    ("parallel-tool-calls-type", Safe, tools::parallel_tool_calls_type),
    ("tool-calls-not-array", Safe, tools::tool_calls_not_array),
    ("tool-calls-empty", Safe, tools::remove_nothing),
    ("tool-calls-on-non-assistant", Unsafe, tools::tool_calls_on_non_assistant),
    ("tool-call-missing-id", Safe, tools::tool_call_missing_id),
    ("tool-call-type-invalid", Safe, tools::type_function),
    ("tool-call-function-missing", Safe, tools::tool_call_function_missing),
    ("tool-arguments-not-string", Safe, tools::tool_arguments_not_string),
    ("tool-arguments-invalid-json", Unsafe, tools::arguments_text),
    ("tool-arguments-not-object", Unsafe, tools::arguments_text),
    ("tool-message-orphan", Safe, tools::tool_message_orphan),
    ("tool-message-missing-id", Safe, tools::tool_message_missing_id),
    ("function-call-invalid", Safe, tools::function_call_invalid),
    ("image-url-missing", Safe, images::image_url_missing),
    ("image-url-string", Safe, images::image_url_string),
    ("image-url-scheme", Safe, images::image_data),
    ("image-data-uri-malformed", Safe, images::image_data),
    ("image-base64-invalid", Safe, images::image_data),
    ("image-base64-whitespace", Safe, images::image_data),
    ("image-mime-mismatch", Safe, images::image_data),
    ("image-mime-nonstandard", Safe, images::image_data),
    ("image-detail-invalid", Safe, images::image_detail_invalid),
    ("dpo-missing-input", Safe, preference::dpo_missing_input),
    ("dpo-input-invalid", Safe, preference::dpo_input_invalid),
    ("dpo-completion-key-names", Safe, preference::dpo_completion_key_names),
    ("dpo-output-not-array", Safe, preference::dpo_output_not_array),
    ("dpo-output-empty", Unsafe, preference::dpo_output_empty),
    ("dpo-identical-outputs", Unsafe, preference::dpo_identical_outputs),
];

/// What mending a rule's findings takes; `None` where nobody but the writer of the data can mend them.
pub(crate) fn safety(rule: &str) -> Option<Safety> {
    let of_records = RECORDS.iter().map(|&(id, safety, _)| (id, safety));
    of_records.chain(BEFORE_RECORDS).find(|(id, _)| *id == rule).map(|(_, safety)| safety)
}

/// Mends one finding of a record.
pub(super) fn mend(rule: &str, context: &Context) -> Option<Mend> {
    let (.., fix) = RECORDS.iter().find(|(id, ..)| *id == rule)?;
    fix(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fix_is_of_a_rule_and_there_is_one_a_rule() {
        let ids: Vec<&str> = RECORDS.iter().map(|(id, ..)| *id).chain(BEFORE_RECORDS.map(|(id, _)| id)).collect();
        let known = |id: &str| crate::rules().iter().any(|rule| rule.id == id);
        assert_eq!(ids.iter().find(|id| !known(id)), None);
        let unique: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
    }
}
