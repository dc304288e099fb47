//! Runs the program and compares what a user sees.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use expect_test::Expect;

/// Runs `afina` in `dir` and compares exit code, stdout and stderr with `expect`. The folder's path is printed as `[DIR]`.
pub fn check_cli(dir: &Path, args: &[&str], expect: Expect) {
    expect.assert_eq(&run_cli(dir, args));
}

/// The same text, for tests that look for a part of it.
pub fn run_cli(dir: &Path, args: &[&str]) -> String {
    run_with_stdin(dir, args, b"")
}

/// [`run_cli`], with these bytes on standard input.
pub fn run_with_stdin(dir: &Path, args: &[&str], stdin: &[u8]) -> String {
    run(dir, args, stdin, &[])
}

/// [`run_cli`], with these variables in its environment.
pub fn run_with_variables(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> String {
    run(dir, args, b"", variables)
}

fn run(dir: &Path, args: &[&str], stdin: &[u8], variables: &[(&str, &str)]) -> String {
    // A test must not depend on who is logged in where it runs.
    let hub = ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_afina"));
    for variable in hub {
        command.env_remove(variable);
    }
    let mut child = command
        .args(args)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // Who does not read its input closes it.
    let _ = child.stdin.take().expect("it was asked for").write_all(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir.display().to_string(), "[DIR]");
    let code = output.status.code().map_or("none".to_owned(), |code| code.to_string());
    let mut seen = format!("exit {code}\n");
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            seen += &format!("--- {name}\n{}\n", text(bytes).trim_end());
        }
    }
    seen
}
