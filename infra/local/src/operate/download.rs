//! `download`: the files of a task.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use local::Error;
use local::deployed::Deployed;
use reelhook_core::TaskKey;
use reelhook_core::record::State;
use serde_json::json;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;

use super::output::table;
use super::{Code, Output, record, refused};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The task, PROVIDER/ID.
    task: TaskKey,
    /// The directory. It is made where it is missing; files in it are replaced.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
}

pub(super) async fn run(arguments: &Arguments, deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let Arguments { task, directory } = arguments;
    let record = record(deployed, task).await?;
    if matches!(record.state, State::Pending | State::Reported) {
        return Err(Error::Refused(format!("{task} is {}: `tasks wait {task}` first", record.state)));
    }
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |error: std::io::Error| Error::Refused(format!("cannot write {what}: {error}"))
    };
    fs::create_dir_all(directory).await.map_err(failed(directory))?;
    let bars = MultiProgress::new();
    let mut written = Vec::new();
    let keys = record.artifacts.iter().map(|artifact| artifact.key.clone());
    for key in keys.chain([format!("{}result.json", task.prefix())]) {
        let name = key.rsplit('/').next().unwrap_or("file");
        let path = directory.join(name);
        // Renamed when it is complete, so that no reader takes a part for the whole.
        let part = directory.join(format!("{name}.part"));
        let object = deployed.s3.get_object().bucket(&deployed.outputs.bucket_name).key(&key).send().await;
        let object = object.map_err(|error| {
            let status = error.raw_response().map(|response| response.status().as_u16());
            Error::Refused(format!("{key} cannot be read from the bucket (status {status:?})"))
        })?;
        let length = object.content_length().unwrap_or_default().unsigned_abs();
        let bar = bars.add(ProgressBar::new(length)).with_style(
            ProgressStyle::with_template("{msg:24} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(name.to_owned());
        let mut file = fs::File::create(&part).await.map_err(failed(&part))?;
        let (mut body, mut received) = (object.body, 0);
        while let Some(bytes) = body.try_next().await.map_err(refused)? {
            file.write_all(&bytes).await.map_err(failed(&part))?;
            received += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
        }
        file.flush().await.map_err(failed(&part))?;
        if received != length {
            return Err(Error::Refused(format!("{key} ended after {received} of {length} bytes; try again")));
        }
        fs::rename(&part, &path).await.map_err(failed(&path))?;
        bar.finish();
        written.push((path.display().to_string(), length));
    }
    let files: Vec<_> = written.iter().map(|(path, bytes)| json!({ "path": path, "bytes": bytes })).collect();
    output.print(&json!({ "files": files }), || {
        table(&["file", "bytes"], written.iter().map(|(path, bytes)| vec![path.clone(), bytes.to_string()]))
    });
    Ok(Code::Done)
}
