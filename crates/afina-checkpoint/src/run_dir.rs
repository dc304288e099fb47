//! `checkpoints/<run>/`: the steps of a run, its resolved recipe, its manifest and its metrics.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::atomic::write_file;

/// A run's folder. Names inside it are fixed: `recipe.toml`, `manifest.json`, `metrics.jsonl`, `metrics.csv`, `latest`, `best`,
/// `step-000200/`.
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

    /// Points `latest` at a step, and `best` at another where there is one. Of the other checkpoints the newest are kept, `keep`
    /// with `step` (0 keeps all); one after `step` is of no use, for the run comes there again.
    pub fn set_latest(&self, step: usize, best: Option<usize>, keep: usize) -> io::Result<()> {
        self.point("latest", step)?;
        if let Some(best) = best {
            self.point("best", best)?;
        }
        let steps: Vec<usize> = self.steps().into_iter().rev().skip_while(|&other| other > step).collect();
        let kept = if keep == 0 { &steps[..] } else { &steps[..keep.min(steps.len())] };
        for old in self.steps() {
            if !kept.contains(&old) && best != Some(old) {
                std::fs::remove_dir_all(self.step_dir(old))?;
            }
        }
        Ok(())
    }

    fn point(&self, name: &str, step: usize) -> io::Result<()> {
        let dir = self.step_dir(step);
        let dir = dir.file_name().expect("a step folder has a name").to_string_lossy();
        self.write(name, format!("{dir}\n").as_bytes())
    }

    /// Adds whole lines to a log of this run, each with its line end.
    pub fn append(&self, name: &str, lines: &str) -> io::Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.file(name))?;
        file.write_all(lines.as_bytes())
    }

    /// Sees to it that what was appended to a log is on the disk; a log that is not there is no log.
    pub fn sync(&self, name: &str) -> io::Result<()> {
        match std::fs::File::open(self.file(name)) {
            Ok(file) => file.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Drops the lines of a log that `keep` refuses: what a resumed run will write again; and a last one that was cut short.
    pub fn retain_lines(&self, name: &str, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        let bytes = match std::fs::read(self.file(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_kept = |line: &&[u8]| line.strip_suffix(b"\n").is_some_and(|line| str::from_utf8(line).is_ok_and(&keep));
        let kept: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').filter(is_kept).collect();
        self.write(name, &kept.concat())
    }

    /// Removes a file or folder of this run, where it is there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.file(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
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
        run.set_latest(4, None, 2).unwrap();
        assert_eq!(run.steps(), [3, 4]);
        assert_eq!(run.latest(), Some(run.step_dir(4)));
    }

    #[test]
    fn the_best_checkpoint_stays_beside_the_newest() {
        let (_dir, run) = run_with_steps(&[1, 2, 3, 4, 5]);
        run.set_latest(5, Some(2), 2).unwrap();
        assert_eq!(run.steps(), [2, 4, 5]);
        assert_eq!(std::fs::read_to_string(run.file("best")).unwrap(), "step-000002\n");
        run.set_latest(5, Some(4), 2).unwrap();
        assert_eq!(run.steps(), [4, 5]);
    }

    #[test]
    fn what_lies_after_the_step_that_a_run_went_back_to_is_dropped() {
        let (_dir, run) = run_with_steps(&[20, 25, 30]);
        run.set_latest(25, None, 1).unwrap();
        assert_eq!((run.steps(), run.latest()), (vec![25], Some(run.step_dir(25))));
    }

    #[test]
    fn keep_zero_removes_nothing() {
        let (_dir, run) = run_with_steps(&[1, 2, 3]);
        run.set_latest(3, None, 0).unwrap();
        assert_eq!(run.steps(), [1, 2, 3]);
    }

    #[test]
    fn a_log_is_cut_where_a_run_resumes() {
        let (_dir, run) = run_with_steps(&[]);
        run.append("metrics.csv", "1\n2\n3\n").unwrap();
        run.retain_lines("metrics.csv", |line| line != "3").unwrap();
        assert_eq!(std::fs::read_to_string(run.file("metrics.csv")).unwrap(), "1\n2\n");
        write_file(&run.file("metrics.csv"), b"1\n2\n1\xc3").unwrap(); // the end of a write that a kill cut off
        run.retain_lines("metrics.csv", |_| true).unwrap();
        assert_eq!(std::fs::read_to_string(run.file("metrics.csv")).unwrap(), "1\n2\n");
        run.retain_lines("none.csv", |_| true).unwrap();
    }
}
