//! Commands as a user types them.

use expect_test::expect;

use crate::check::check_cli;

#[test]
fn a_mistyped_command_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    check_cli(dir.path(), &["valdate", "x.jsonl"], expect![[""]]);
}
