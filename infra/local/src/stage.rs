//! `cargo run -- stage`: the output of `cargo lambda build`, laid out as `sam deploy` needs it without `sam build`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use local::functions::{FUNCTIONS, Functions};
use local::{Error, FunctionSource, Progress, workspace_root};

/// Why nothing can be deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// A function is missing, or cannot be copied.
    #[error(transparent)]
    Local(#[from] Error),
    /// A file cannot be read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Lambda could not start the function.
    #[error(
        "{} is built for {built}, and infra/template.yaml says {configured}: build it with{} --arm64, or change \
         `Architectures` in the template",
        path.display(), if *configured == "arm64" { "" } else { "out" }
    )]
    Architecture { path: PathBuf, built: &'static str, configured: &'static str },
}

/// Lays out the template and the functions in `directory` (`target/lambda`). Returns what to do next.
pub(crate) async fn run(directory: PathBuf) -> Result<String, StageError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StageError::File { path, source }
    };
    let template = workspace_root().join("infra/template.yaml");
    let text = fs::read_to_string(&template).map_err(failed(&template))?;
    let configured = if text.contains("Architectures: [arm64]") { "arm64" } else { "x86_64" };
    let functions = Functions::prepare(&FunctionSource::Directory(directory), Progress::Terminal).await?;
    for path in FUNCTIONS.iter().filter_map(|function| functions.executable(function)) {
        let built = architecture(&fs::read(path).map_err(failed(path))?);
        if built != configured {
            return Err(StageError::Architecture { path: path.to_owned(), built, configured });
        }
    }
    let stack = workspace_root().join("target/stack");
    let staged = stack.join("infra/template.yaml");
    fs::create_dir_all(stack.join("infra")).and_then(|()| fs::copy(&template, &staged)).map_err(failed(&staged))?;
    functions.lay_out(&stack.join("functions"))?;
    let deploy = "sam deploy --template target/stack/infra/template.yaml --config-file ../../../samconfig.toml";
    Ok(format!("the functions are beside the template; now `{deploy}`\n"))
}

/// What an executable is built for, by `e_machine` of its ELF header.
fn architecture(executable: &[u8]) -> &'static str {
    match executable.get(18..20) {
        Some([0xB7, 0]) if executable.starts_with(b"\x7FELF") => "arm64",
        Some([0x3E, 0]) if executable.starts_with(b"\x7FELF") => "x86_64",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_says_what_it_is_built_for() {
        let this = std::env::current_exe().and_then(fs::read).expect("the test is a file");
        let expected = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
        assert_eq!(architecture(&this), expected);
        assert_eq!(architecture(b"#!/bin/sh\nexec true\n"), "something else");
    }
}
