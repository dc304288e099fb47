//! `afina train` as it is interrupted: by Ctrl-C, by a kill, by a full disk.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::check::run_cli;
use crate::tiny_model::model_dir;

/// A model, nine lines and a recipe that saves every step.
pub fn workplace(dir: &Path, steps: usize) {
    model_dir(&dir.join("base"));
    let line = |i: usize| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"pregunta {i}\"}},{{\"role\":\"assistant\",\"content\":\"{}\"}}]}}\n",
            "sí ".repeat(i + 1).trim_end()
        )
    };
    let recipe = format!(
        "version = 1\nrecipe = \"lora_finetune\"\nrun = \"./whole\"\n[model]\nbase = \"base\"\n[lora]\nr = 4\n[data]\ntrain = [\"train.jsonl\"]\nvalidation = [\"train.jsonl\"]\nseq_len = 128\npacking = false\n[train]\nmax_steps = {steps}\nmicro_batch_size = 1\ngradient_accumulation_steps = 2\nlearning_rate = 1e-2\n[eval]\nevery_steps = 5\n[save]\nevery_steps = 1\nkeep = 2\n"
    );
    write(dir, "train.jsonl", &(0..9).map(line).collect::<String>());
    write(dir, "r.toml", &recipe);
}

pub fn write(dir: &Path, name: &str, text: &str) {
    afina_checkpoint::write_file(&dir.join(name), text.as_bytes()).unwrap();
}

pub fn adapter(dir: &Path, run: &str) -> Vec<u8> {
    std::fs::read(dir.join(run).join("adapter_model.safetensors")).unwrap()
}

/// `metrics.jsonl` without what a clock or the machine decides.
pub fn metrics(dir: &Path, run: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut metrics: serde_json::Value = serde_json::from_str(line).unwrap();
        metrics["tokens_per_second"].take();
        metrics["peak_memory"].take();
        metrics
    };
    text.lines().map(line).collect()
}

/// The program while it trains, and what it says on stderr.
struct Training {
    child: Child,
    lines: Receiver<String>,
}

impl Training {
    fn start(dir: &Path, run: &str) -> Training {
        let resume = dir.join(run).is_dir().then_some("--resume");
        let mut child = Command::new(env!("CARGO_BIN_EXE_afina"))
            .args(["train", "r.toml", &format!("run=./{run}")])
            .args(resume)
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let stderr = BufReader::new(child.stderr.take().expect("it was asked for"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Training { child, lines }
    }

    /// Waits for so many checkpoints, and then a while longer; false where the program has ended by then.
    fn wait(&self, checkpoints: usize, longer: Duration) -> bool {
        let mut saved = self.lines.iter().filter(|line| line.contains(": saved "));
        if checkpoints > 0 && saved.nth(checkpoints - 1).is_none() {
            return false;
        }
        let until = Instant::now() + longer;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn kill(mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    fn end(mut self) -> (ExitStatus, String) {
        let said: Vec<String> = self.lines.iter().collect();
        (self.child.wait().unwrap(), said.join("\n"))
    }
}

/// SplitMix64.
fn random(counter: &mut u64) -> u64 {
    *counter += 0x9E37_79B9_7F4A_7C15;
    let mut bits = *counter;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[test]
fn twenty_kills_change_no_byte_of_the_adapter() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 60);
    let (status, said) = Training::start(dir.path(), "whole").end();
    assert!(status.success(), "{said}");
    let (mut seed, mut kills, mut runs) = (7, 0, 0);
    while kills < 20 {
        let run = format!("killed-{runs}");
        loop {
            let training = Training::start(dir.path(), &run);
            let checkpoints = (random(&mut seed) % 3) as usize;
            let longer = Duration::from_micros(random(&mut seed) % 20_000);
            if kills < 20 && training.wait(checkpoints, longer) {
                let status = training.kill();
                kills += usize::from(status.code().is_none()); // it may have ended meanwhile
                continue;
            }
            let (status, said) = training.end();
            assert!(status.success(), "after {kills} kills: {said}");
            break;
        }
        assert!(adapter(dir.path(), &run) == adapter(dir.path(), "whole"), "{run}, after {kills} kills");
        assert_eq!(metrics(dir.path(), &run), metrics(dir.path(), "whole"), "{run}, after {kills} kills");
        runs += 1;
    }
}

#[test]
#[cfg(unix)]
fn a_signal_saves_and_exits_with_130() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 60);
    assert!(Training::start(dir.path(), "whole").end().0.success());
    for signal in ["-INT", "-TERM"] {
        let run = format!("stopped{signal}");
        let training = Training::start(dir.path(), &run);
        assert!(training.wait(3, Duration::ZERO));
        let kill = Command::new("kill").args([signal, &training.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let (status, said) = training.end();
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(!dir.path().join(&run).join("adapter_model.safetensors").exists());
        let (status, said) = Training::start(dir.path(), &run).end();
        assert!(status.success() && said.contains("resumed        after step "), "{said}");
        assert!(adapter(dir.path(), &run) == adapter(dir.path(), "whole"), "{signal}");
        assert_eq!(metrics(dir.path(), &run), metrics(dir.path(), "whole"), "{signal}");
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 6);
    for threads in ["1", "2", "3"] {
        let run = format!("run=./threads-{threads}");
        let seen = run_cli(dir.path(), &["train", "r.toml", &run, "--threads", threads]);
        assert!(seen.starts_with("exit 0\n"), "{seen}");
    }
    for threads in [2, 3] {
        assert!(adapter(dir.path(), "threads-1") == adapter(dir.path(), &format!("threads-{threads}")), "{threads}");
    }
}

#[test]
#[cfg(unix)]
fn a_full_disk_loses_nothing_that_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 150);
    let small = ["lora.r=1", "eval.every_steps=0"];
    let train = |run: &str, more: &[&str], limit: &str| {
        // No file may be larger than 32 blocks of 512 or 1024 bytes: the log of the steps reaches that, a checkpoint does not.
        let script = format!("{limit} exec \"$0\" train r.toml \"$@\"");
        let run = format!("run=./{run}");
        let args = [&[run.as_str()], &small[..], more].concat();
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_afina")])
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = train("whole", &[], "");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = train("full", &[], "ulimit -f 32; trap '' XFSZ;");
    assert_eq!(code, Some(1), "{said}");
    for part in ["error: failed to write `./full/", "cause: File too large", "hint: make room on the disk"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = train("full", &["--resume"], "");
    assert_eq!(code, Some(0), "{said}");
    assert!(adapter(dir.path(), "full") == adapter(dir.path(), "whole"));
    assert_eq!(metrics(dir.path(), "full"), metrics(dir.path(), "whole"));
}

#[test]
fn a_step_that_is_not_finite_is_not_applied_and_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 9);
    let seen = run_cli(dir.path(), &["train", "r.toml", "train.learning_rate=1e30", "train.warmup_ratio=0"]);
    assert!(seen.starts_with("exit 1\n"), "{seen}");
    for part in [
        "error: step 2: the loss itself is not finite; the step was not applied",
        "micro-batch 1 of 2, row 1: train.jsonl:",
        "(its loss is not finite)",
        "hint: `./whole/failed-step-000002/batch.json` holds",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    let run = dir.path().join("whole");
    assert_eq!(std::fs::read_to_string(run.join("latest")).unwrap(), "step-000001\n");
    let read = |name: &str| std::fs::read(run.join(name)).unwrap();
    for name in ["adapter_model.safetensors", "optimizer.safetensors"] {
        assert!(read(&format!("failed-step-000002/{name}")) == read(&format!("step-000001/{name}")));
    }
    let batch: serde_json::Value = serde_json::from_slice(&read("failed-step-000002/batch.json")).unwrap();
    let example = &batch["rows"][0][0];
    assert_eq!((&batch["step"], example["file"].as_str()), (&2.into(), Some("train.jsonl")));
    let (line, tokens) = (example["line"].as_u64().unwrap(), example["tokens"].as_array().unwrap());
    assert!((1..=9).contains(&line) && tokens.len() == example["loss_mask"].as_array().unwrap().len(), "{example}");
    // The run is where it was: it fails at the same step again, with the same words.
    let again =
        run_cli(dir.path(), &["train", "r.toml", "train.learning_rate=1e30", "train.warmup_ratio=0", "--resume"]);
    let error = |seen: &str| seen[seen.find("error: ").unwrap()..].to_owned();
    assert_eq!(error(&again), error(&seen));
}

#[test]
#[cfg(unix)]
fn what_would_fail_at_the_end_fails_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    workplace(dir.path(), 3);
    // Room for a checkpoint, and none for a merged model.
    let script = "ulimit -f 64; trap '' XFSZ; exec \"$0\" train r.toml lora.r=1 export.as=hf";
    let output =
        Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_afina")]).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["error: the rehearsal before the first step failed", "cause: File too large"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!dir.path().join("whole/metrics.jsonl").exists() && !dir.path().join("whole/latest").exists());
    let seen = run_cli(dir.path(), &["train", "r.toml", "lora.r=1", "export.as=hf"]);
    assert!(seen.starts_with("exit 0\n") && seen.contains("exported       ./whole/export-hf"), "{seen}");
    assert!(seen.contains("rehearsal      "), "{seen}");
    let seen = run_cli(dir.path(), &["info", "whole/export-hf"]);
    assert!(seen.starts_with("exit 0\n"), "{seen}");
}
