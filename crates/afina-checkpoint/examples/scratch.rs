#![allow(clippy::print_stdout, clippy::print_stderr)]
use afina_checkpoint::*;
use std::path::{Path, PathBuf};
use std::time::Instant;
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(s) => format!("{error}\n  cause: {}", chain(s)),
        None => error.to_string(),
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let t = Instant::now();
    let r: Result<String, Box<dyn std::error::Error>> = (|| {
        Ok(match a[1].as_str() {
            "pull" => {
                let req = PullRequest {
                    model: a[2].clone(),
                    source: a.get(4).map(|s| if s == "pip" { pull::Source::Pip } else { pull::Source::Path(s.into()) }),
                    base_dir: PathBuf::from(&a[3]),
                    to: None,
                    pythons: vec!["python3".into(), "python".into()],
                };
                match pull(&req, &mut |e| {
                    if !matches!(e, PullEvent::Converting { .. }) {
                        eprintln!("{e:?}")
                    }
                }) {
                    Ok(p) => p.display().to_string(),
                    Err(e) => {
                        eprintln!("hint: {:?}", e.hint());
                        return Err(e.into());
                    }
                }
            }
            "info" => serde_json::to_string_pretty(&{
                let mut i = inspect(Path::new(&a[2]))?;
                i.tensors.truncate(3);
                i
            })?,
            "gguf" => {
                let m = ModelDir::open(Path::new(&a[2]))?;
                export_gguf(
                    &m,
                    Path::new(&a[3]),
                    if a[4] == "f32" { GgufType::F32 } else { GgufType::Q8_0 },
                    &mut |_, _| (),
                )?;
                String::new()
            }
            "hf" => {
                let m = ModelDir::open(Path::new(&a[2]))?;
                export_hf(&m, Path::new(&a[3]))?;
                String::new()
            }
            "merge" => {
                let m = ModelDir::open(Path::new(&a[2]))?;
                serde_json::to_string(&merge(&m, Path::new(&a[3]), Path::new(&a[4]), &mut |_, _| ())?)?
            }
            "peft" => {
                export_peft(Path::new(&a[2]), Path::new(&a[3]))?;
                String::new()
            }
            _ => panic!(),
        })
    })();
    match r {
        Ok(s) => println!("{s}"),
        Err(e) => {
            eprintln!("error: {}", chain(&*e));
            std::process::exit(1)
        }
    }
    eprintln!("{:.2} s", t.elapsed().as_secs_f64());
}
