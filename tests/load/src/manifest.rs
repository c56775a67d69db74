//! What the first program hands to the second: how each task must have ended, one JSON line each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use simulator::{FileKind, Outcome, Phase, Simulator, TaskView};

use crate::Error;
use crate::plan;

/// How one task must have ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Expected {
    /// Its key.
    pub task: String,
    /// The provider's id; empty if the task never arrived there.
    pub provider_task_id: String,
    /// The state of its record.
    pub state: String,
    /// How often its result may have been announced at most. Once at least.
    pub most_events: u64,
    /// How many tasks the provider has made of it.
    pub submissions: u64,
    /// What the provider has: at most these files are stored, and the videos at least.
    pub files: Vec<ExpectedFile>,
}

/// A file at the provider.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ExpectedFile {
    /// As in `result.json`.
    pub kind: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: String,
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What the providers know of these tasks, without asking reelhook.
pub fn expectations(simulator: &Simulator, tasks: &[TaskView], keys: &[String]) -> Vec<Expected> {
    let mut submitted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for submission in simulator.submissions() {
        if let (Some(key), Some(id)) = (plan::mark(&submission.body), submission.task_id) {
            submitted.entry(key).or_default().push(id);
        }
    }
    let by_id: BTreeMap<&str, &TaskView> = tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let of_key = |key: &String| {
        let ids = submitted.get(key).map(Vec::as_slice).unwrap_or_default();
        let view = ids.first().and_then(|id| by_id.get(id.as_str()).copied());
        expected(simulator, key, view, ids.len() as u64)
    };
    keys.iter().map(of_key).collect()
}

fn expected(simulator: &Simulator, key: &str, view: Option<&TaskView>, submissions: u64) -> Expected {
    let is_reconsidered = view.is_some_and(|view| view.script.then == simulator::script::Then::Succeed);
    let (state, files) = match view.map(|view| (view.phase, view)) {
        Some((Phase::Final(Outcome::Succeed), view)) => ("archived", files(simulator, view)),
        Some((Phase::Final(_), _)) => ("failed", vec![]),
        Some((Phase::Open(_), _)) | None => ("pending", vec![]),
    };
    Expected {
        task: key.to_owned(),
        provider_task_id: view.map(|view| view.id.clone()).unwrap_or_default(),
        state: state.to_owned(),
        most_events: if is_reconsidered { 2 } else { 1 },
        submissions,
        files,
    }
}

fn files(simulator: &Simulator, view: &TaskView) -> Vec<ExpectedFile> {
    let file = |file: &simulator::FileView| {
        let kind = match file.kind {
            FileKind::Video => "video",
            FileKind::Watermarked => "watermarked_video",
            FileKind::Cover => "cover",
            FileKind::LastFrame => "last_frame",
        };
        let content = simulator.content(&view.id, &file.name)?.to_vec();
        Some(ExpectedFile { kind: kind.to_owned(), bytes: content.len() as u64, digest: digest(&content) })
    };
    view.files.iter().filter_map(file).collect()
}

/// Writes a manifest. Its first line says whether the AWS counts events.
pub fn write(path: &Path, counts_events: bool, tasks: &[Expected]) -> Result<(), Error> {
    let failed = |error| Error::System("the manifest cannot be written", error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    writeln!(file, "{}", json!({ "counts_events": counts_events })).map_err(failed)?;
    for task in tasks {
        writeln!(file, "{}", serde_json::to_string(task)?).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

/// Reads a manifest.
pub fn read(path: &Path) -> Result<(bool, Vec<Expected>), Error> {
    let failed = |error| Error::System("the manifest cannot be read", error);
    let mut lines = BufReader::new(File::open(path).map_err(failed)?).lines();
    let first = lines.next().ok_or_else(|| Error::Missing("the manifest is empty".to_owned()))?.map_err(failed)?;
    let counts_events = serde_json::from_str::<serde_json::Value>(&first)?["counts_events"] == true;
    let tasks = lines.map(|line| Ok(serde_json::from_str(&line.map_err(failed)?)?)).collect::<Result<_, Error>>()?;
    Ok((counts_events, tasks))
}
