//! `checkpoints/<run>/`: the steps of a run, its resolved recipe, its manifest and its metrics.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::atomic::write_file;

/// A run's folder. Names inside it are fixed: `recipe.toml`, `manifest.json`, `metrics.jsonl`, `metrics.csv`, `latest`, `step-000200/`.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    pub fn create(path: &Path) -> io::Result<RunDir> {
        std::fs::create_dir_all(path)?;
        Ok(RunDir { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_file(&self.file(name), bytes)
    }

    /// Whether a run has left a checkpoint or a finished adapter here; logs alone are no loss.
    pub fn is_used(&self) -> bool {
        self.file("adapter_model.safetensors").exists() || self.latest().is_some()
    }

    pub fn step_dir(&self, step: usize) -> PathBuf {
        self.path.join(format!("step-{step:06}"))
    }

    /// Steps with a complete checkpoint, ascending.
    pub fn steps(&self) -> Vec<usize> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let mut steps: Vec<usize> = entries
            .flatten()
            .filter(|entry| entry.path().join("state.json").is_file())
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// The newest complete checkpoint: what `latest` names, else the highest step.
    pub fn latest(&self) -> Option<PathBuf> {
        let named = std::fs::read_to_string(self.file("latest")).ok().map(|name| self.path.join(name.trim()));
        named
            .filter(|dir| dir.join("state.json").is_file())
            .or_else(|| self.steps().last().map(|&step| self.step_dir(step)))
    }

    /// Points `latest` at a step and removes the oldest checkpoints beyond `keep` (0 keeps all).
    pub fn set_latest(&self, step: usize, keep: usize) -> io::Result<()> {
        let name = self.step_dir(step);
        let name = name.file_name().expect("a step folder has a name").to_string_lossy().into_owned();
        self.write("latest", format!("{name}\n").as_bytes())?;
        let steps = self.steps();
        if keep > 0 && steps.len() > keep {
            for &old in &steps[..steps.len() - keep] {
                std::fs::remove_dir_all(self.step_dir(old))?;
            }
        }
        Ok(())
    }

    /// Adds one line to a log of this run.
    pub fn append_line(&self, name: &str, line: &str) -> io::Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.file(name))?;
        file.write_all(format!("{line}\n").as_bytes())
    }

    /// Drops the lines of a log that `keep` refuses: what a resumed run will write again.
    pub fn retain_lines(&self, name: &str, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        let text = match std::fs::read_to_string(self.file(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let kept: String = text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect();
        self.write(name, kept.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with_steps(steps: &[usize]) -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run")).unwrap();
        for &step in steps {
            std::fs::create_dir_all(run.step_dir(step)).unwrap();
            write_file(&run.step_dir(step).join("state.json"), b"{}").unwrap();
        }
        (dir, run)
    }

    #[test]
    fn latest_is_the_highest_complete_step() {
        let (_dir, run) = run_with_steps(&[50, 100]);
        std::fs::create_dir_all(run.step_dir(150)).unwrap(); // no state.json: not complete
        assert_eq!(run.latest(), Some(run.step_dir(100)));
    }

    #[test]
    fn only_the_newest_checkpoints_are_kept() {
        let (_dir, run) = run_with_steps(&[1, 2, 3, 4]);
        run.set_latest(4, 2).unwrap();
        assert_eq!(run.steps(), [3, 4]);
        assert_eq!(run.latest(), Some(run.step_dir(4)));
    }

    #[test]
    fn keep_zero_removes_nothing() {
        let (_dir, run) = run_with_steps(&[1, 2, 3]);
        run.set_latest(3, 0).unwrap();
        assert_eq!(run.steps(), [1, 2, 3]);
    }

    #[test]
    fn a_log_is_cut_where_a_run_resumes() {
        let (_dir, run) = run_with_steps(&[]);
        for line in ["1", "2", "3"] {
            run.append_line("metrics.csv", line).unwrap();
        }
        run.retain_lines("metrics.csv", |line| line != "3").unwrap();
        assert_eq!(std::fs::read_to_string(run.file("metrics.csv")).unwrap(), "1\n2\n");
        run.retain_lines("none.csv", |_| true).unwrap();
    }
}
