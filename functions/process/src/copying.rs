//! Copies the artifacts of a success, and decides what a copy that did not work means: not yet, no longer, or never.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use reelhook_aws::asking::Asked;
use reelhook_aws::copy::{CopyError, CopyRequest, Earlier};
use reelhook_aws::download::Refusal;
use reelhook_aws::telemetry::now;
use reelhook_core::Timestamp;
use reelhook_core::copy_plan::SavedUpload;
use reelhook_core::providers::{PolledTask, StatusAnswer};
use reelhook_core::record::Record;

use reelhook_core::report::{Artifact, Failure, Kind, Reason, Report, Source, Statement};
use reelhook_core::result::{MissingArtifact, StoredArtifact};
use reelhook_core::schedule::next_copy_attempt;
use reelhook_core::settings::{ProviderSettings, Settings};
use tokio::time::Instant;

use crate::Hub;

/// Artifacts of one task copied side by side. The copier shares its memory among all copies of the invocation; a task has
/// rarely more than three files.
const COPIES_AT_ONCE: usize = 3;

/// How long after a report a link that answers "not found" counts as not there yet, in seconds. Providers announce a file
/// some seconds, on bad days some minutes before their store shows it. Chosen freely.
const NOT_THERE_YET: i64 = 15 * 60;

/// How long an artifact is tried for at most, in seconds after the report, however long its link claims to live.
const LONGEST_TRY: i64 = 24 * 3600;

/// How long an origin's outage is waited out beyond the end of the link, in seconds: clocks differ, and some stores are lax.
const GRACE: i64 = 3600;

/// What became of copying a task's artifacts.
pub(crate) enum Copied {
    /// Everything essential is in the bucket.
    All {
        /// What is there.
        stored: Vec<StoredArtifact>,
        /// Covers and the like that could not be had.
        missing: Vec<MissingArtifact>,
    },
    /// Something essential cannot be had any more.
    Lost {
        /// Why.
        failure: Failure,
        /// What is there.
        stored: Vec<StoredArtifact>,
        /// What is not.
        missing: Vec<MissingArtifact>,
    },
    /// Another try is worth while.
    Later {
        /// When.
        at: Timestamp,
        /// What it can go on with.
        upload: Option<String>,
        /// Which file could not be had yet, and why.
        trouble: String,
    },
    /// The invocation is about to end.
    OutOfTime {
        /// What the next one can go on with.
        upload: Option<String>,
    },
}

/// An artifact that is to be copied, and where to.
#[derive(Clone, Debug)]
struct Planned {
    artifact: Artifact,
    /// How manieth of its kind it is, from 1.
    number: usize,
    key_stem: String,
}

/// What became of one artifact.
enum One {
    Stored(StoredArtifact),
    Missing(String),
    Later { at: Timestamp, upload: Option<SavedUpload>, reason: String },
    OutOfTime(Option<SavedUpload>),
}

/// Copies what the report names and the settings want, nearest expiry first.
pub(crate) async fn copy(hub: &Hub, settings: &Settings, record: &Record, deadline: Instant) -> Copied {
    let Some(Report::Succeeded { artifacts }) = &record.report else {
        return Copied::All { stored: vec![], missing: vec![] };
    };
    let own = settings.provider(record.task.provider());
    let planned = plan(&record.task.prefix(), artifacts, own.artifacts.as_deref());
    let mut saved = saved_uploads(record);
    let work: Vec<_> = planned
        .into_iter()
        .map(|planned| {
            let resume = saved.remove(&planned.key_stem);
            (planned, resume)
        })
        .collect();
    // Uploads of artifacts that are not wanted any more.
    for upload in saved.into_values() {
        hub.copier.abandon(&upload).await;
    }
    let done: Vec<(Planned, One)> = stream::iter(work)
        .map(|(planned, resume)| async move {
            let one = copy_one(hub, own, record, &planned, resume, deadline).await;
            (planned, one)
        })
        .buffer_unordered(COPIES_AT_ONCE)
        .collect()
        .await;
    conclude(done)
}

fn conclude(mut done: Vec<(Planned, One)>) -> Copied {
    // In the order of their names, whatever order they finished in.
    done.sort_by_key(|(planned, _)| (planned.artifact.kind, planned.number));
    let (mut stored, mut missing, mut lost) = (vec![], vec![], None);
    let (mut later, mut out_of_time) = (None::<(Timestamp, String)>, false);
    let mut uploads = BTreeMap::new();
    for (planned, one) in done {
        let kind = planned.artifact.kind;
        let named = |reason: &str| format!("{} {}: {reason}", kind.name(), planned.number);
        match one {
            One::Stored(artifact) => stored.push(artifact),
            One::Missing(reason) => {
                if kind.is_essential() {
                    lost.get_or_insert_with(|| Failure::new(Reason::Expired, true).message(named(&reason)));
                }
                missing.push(MissingArtifact { kind, reason });
            }
            One::Later { at, upload, reason } => {
                later = Some(match later {
                    None => (at, named(&reason)),
                    // One trouble is enough to know; the log has all.
                    Some((earlier, trouble)) => (earlier.min(at), trouble),
                });
                uploads.extend(upload.map(|upload| (planned.key_stem, upload)));
            }
            One::OutOfTime(upload) => {
                out_of_time = true;
                uploads.extend(upload.map(|upload| (planned.key_stem, upload)));
            }
        }
    }
    let upload = (!uploads.is_empty()).then(|| serde_json::to_string(&uploads).expect("uploads are JSON"));
    if stored.is_empty() && lost.is_none() {
        // Nothing essential was named, and of what was named nothing is there.
        lost = missing.first().map(|missing| {
            Failure::new(Reason::Expired, true).message(format!("{}: {}", missing.kind.name(), missing.reason))
        });
    }
    match (out_of_time, later, lost) {
        (true, _, _) => Copied::OutOfTime { upload },
        (false, Some((at, trouble)), _) => Copied::Later { at, upload, trouble },
        (false, None, Some(failure)) => Copied::Lost { failure, stored, missing },
        (false, None, None) => Copied::All { stored, missing },
    }
}

fn saved_uploads(record: &Record) -> BTreeMap<String, SavedUpload> {
    let Some(json) = &record.upload else { return BTreeMap::new() };
    serde_json::from_str(json).unwrap_or_else(|error| {
        // Of another release, at worst. The copy starts afresh, and the lifecycle rule clears up.
        tracing::warn!(task = %record.task, %error, "an interrupted copy cannot be gone on with");
        BTreeMap::new()
    })
}

/// Which artifacts are copied, and to where: `video`, `video-2`, `cover`, … The numbers follow the report, the order of the
/// work follows the expiry.
fn plan(prefix: &str, artifacts: &[Artifact], wanted: Option<&[Kind]>) -> Vec<Planned> {
    let clean_video = artifacts.iter().any(|artifact| artifact.kind == Kind::Video);
    let is_wanted = |kind: Kind| match wanted {
        Some(kinds) => kinds.contains(&kind),
        None => kind != Kind::WatermarkedVideo || !clean_video,
    };
    let mut numbers = BTreeMap::<Kind, usize>::new();
    let mut planned = Vec::new();
    for artifact in artifacts {
        let number = numbers.entry(artifact.kind).or_default();
        *number += 1;
        if !is_wanted(artifact.kind) {
            continue;
        }
        let stem = artifact.kind.file_stem();
        let name = if *number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
        planned.push(Planned { artifact: artifact.clone(), number: *number, key_stem: format!("{prefix}{name}") });
    }
    planned.sort_by_key(|planned| {
        (planned.artifact.expires_at.map_or(i64::MAX, Timestamp::seconds), !planned.artifact.kind.is_essential())
    });
    planned
}

async fn copy_one(
    hub: &Hub,
    own: &ProviderSettings,
    record: &Record,
    planned: &Planned,
    resume: Option<SavedUpload>,
    deadline: Instant,
) -> One {
    let task = &record.task;
    let again = record.claim > 1;
    if again {
        // An earlier worker may have copied this one and died over the next; its link may be dead by now.
        match hub.copier.stored(&planned.key_stem, planned.artifact.kind).await {
            Ok(Some(stored)) => return One::Stored(stored),
            Ok(None) => {}
            Err(error) => return later(record, planned, &error, resume),
        }
    }
    let (mut artifact, mut fresh) = (planned.artifact.clone(), false);
    let mut resume = resume;
    loop {
        let link = match &artifact.source {
            Source::Url(link) if fresh || !is_dead(&artifact) => link.clone(),
            // A file id, or a link that is known to be dead: asking first is faster than being refused first.
            _ => match refreshed(hub, own, record, planned).await {
                Some(artifact_with_link) => {
                    fresh = true;
                    artifact = artifact_with_link;
                    continue;
                }
                None => match &artifact.source {
                    Source::Url(link) => {
                        fresh = true;
                        link.clone()
                    }
                    Source::FileId(_) => {
                        let reason = "the provider gave no link for its file".to_owned();
                        return not_there(record, planned, &reason, resume);
                    }
                },
            },
        };
        let request = CopyRequest {
            link: &link,
            key_stem: &planned.key_stem,
            kind: artifact.kind,
            expires_at: artifact.expires_at,
            deadline,
            earlier: if again { Earlier::Possible } else { Earlier::None },
            resume: resume.take(),
        };
        let unfinished = match hub.copier.copy(request).await {
            Ok(stored) => return One::Stored(stored),
            Err(unfinished) => unfinished,
        };
        resume = unfinished.upload;
        let error = unfinished.error;
        tracing::warn!(%task, kind = artifact.kind.name(), number = planned.number, %link, %error, fresh, "a copy did not succeed");
        match error {
            CopyError::OutOfTime => return One::OutOfTime(resume),
            // An earlier worker's copy of the same artifact, of another rendition of the link. It is whole and was checked, and
            // nobody has announced anything else.
            CopyError::Different(_) => {
                return match hub.copier.stored(&planned.key_stem, artifact.kind).await {
                    Ok(Some(standing)) => One::Stored(standing),
                    // Somebody removed it since.
                    Ok(None) => One::Later {
                        at: next_copy_attempt(now(), record.attempts, planned.artifact.expires_at),
                        upload: resume,
                        reason: error.to_string(),
                    },
                    Err(error) => later(record, planned, &error, resume),
                };
            }
            // However often it is fetched.
            CopyError::Refused(Refusal::TooLarge { .. }) => return One::Missing(error.to_string()),
            // The link may be dead, or lead elsewhere by the next visit: redirects and DNS change, a provider may name a better
            // one. Once per visit it is asked for another.
            CopyError::NotThere { .. }
            | CopyError::NotMedia { .. }
            | CopyError::CutOff { .. }
            | CopyError::Refused(_) => {
                let other = if fresh { None } else { refreshed(hub, own, record, planned).await };
                match other.filter(|other| other.source != artifact.source) {
                    Some(other) => {
                        fresh = true;
                        artifact = other;
                    }
                    None => return not_there(record, planned, &error.to_string(), resume),
                }
            }
            CopyError::Origin { retry_after, .. } => {
                if now() > gives_up_at(record, planned).plus(GRACE) {
                    return One::Missing(error.to_string());
                }
                let at = next_copy_attempt(now(), record.attempts, planned.artifact.expires_at);
                // As the origin wishes, as long as it leaves a try before the end.
                let wished = now().plus(retry_after.map_or(0, i64::from)).min(gives_up_at(record, planned));
                return One::Later { at: at.max(wished), upload: resume, reason: error.to_string() };
            }
            CopyError::Storage { .. } => return later(record, planned, &error, resume),
        }
    }
}

/// Our own trouble: tried again for as long as it takes.
fn later(record: &Record, planned: &Planned, error: &CopyError, upload: Option<SavedUpload>) -> One {
    let at = next_copy_attempt(now(), record.attempts, planned.artifact.expires_at);
    tracing::error!(task = %record.task, %error, next_attempt_at = %at, "the bucket could not be used");
    One::Later { at, upload, reason: error.to_string() }
}

/// The file is not there, and asking for another link did not help. Not yet, or no longer?
fn not_there(record: &Record, planned: &Planned, reason: &str, upload: Option<SavedUpload>) -> One {
    if now() < gives_up_at(record, planned) {
        let at = next_copy_attempt(now(), record.attempts, planned.artifact.expires_at);
        return One::Later { at, upload, reason: reason.to_owned() };
    }
    One::Missing(reason.to_owned())
}

/// Until when an artifact is worth another try: to the end of its link, but a quarter of an hour at least and a day at most
/// after the report.
fn gives_up_at(record: &Record, planned: &Planned) -> Timestamp {
    let reported_at = record.reported_at.unwrap_or(now());
    let link_life = record.task.provider().adapter().profile().link_life;
    let end = planned.artifact.expires_at.unwrap_or(reported_at.plus(link_life));
    end.max(reported_at.plus(NOT_THERE_YET)).min(reported_at.plus(LONGEST_TRY))
}

fn is_dead(artifact: &Artifact) -> bool {
    artifact.expires_at.is_some_and(|end| end <= now())
}

/// The artifact with a link that the provider gave just now: by its own call for that, or by asking after the task again.
async fn refreshed(hub: &Hub, own: &ProviderSettings, record: &Record, planned: &Planned) -> Option<Artifact> {
    if !own.can_ask() {
        return None;
    }
    if let Some(artifact) = resolved(hub, own, record, &planned.artifact).await {
        return Some(artifact);
    }
    let provider = record.task.provider();
    let provider_task_id = record.provider_task_id.as_deref()?;
    let polled = PolledTask { provider_task_id, endpoint: record.endpoint.as_deref() };
    let Asked { answer, .. } =
        hub.providers.ask_after(provider, &[polled], own, now()).await.into_iter().flatten().next()?;
    let StatusAnswer::Task(Statement::Final(Report::Succeeded { artifacts })) = answer else { return None };
    let same =
        artifacts.into_iter().filter(|artifact| artifact.kind == planned.artifact.kind).nth(planned.number - 1)?;
    match &same.source {
        Source::Url(_) => Some(same),
        Source::FileId(_) => resolved(hub, own, record, &same).await,
    }
}

/// The artifact with a link out of the provider's call that makes links.
async fn resolved(hub: &Hub, own: &ProviderSettings, record: &Record, artifact: &Artifact) -> Option<Artifact> {
    let adapter = record.task.provider().adapter();
    let request = adapter.resolution(artifact, own, now())?;
    let answered = match hub.providers.ask(&request).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::warn!(task = %record.task, %error, "the provider could not be asked for a link");
            return None;
        }
    };
    match adapter.read_resolution(&answered.as_answer(), now()) {
        Ok(fresh) => {
            Some(Artifact { kind: artifact.kind, source: Source::Url(fresh.url), expires_at: fresh.expires_at })
        }
        Err(failure) => {
            let (reason, code) = (failure.reason.name(), failure.code.as_deref());
            tracing::warn!(task = %record.task, reason, code, "the provider gave no link");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use reelhook_core::redacted::SignedUrl;
    use reelhook_core::result::Checksum;

    use super::*;

    fn artifact(kind: Kind, expires_at: Option<i64>) -> Artifact {
        Artifact {
            kind,
            source: Source::Url(SignedUrl::new("https://cdn.example.com/a")),
            expires_at: expires_at.map(Timestamp::from_seconds),
        }
    }

    fn stems(planned: &[Planned]) -> Vec<&str> {
        planned.iter().map(|planned| planned.key_stem.as_str()).collect()
    }

    #[test]
    fn the_nearest_expiry_is_served_first_and_names_follow_the_report() {
        let artifacts = [
            artifact(Kind::Video, Some(86_400)),
            artifact(Kind::Video, Some(86_400)),
            artifact(Kind::Cover, Some(3_600)),
            artifact(Kind::LastFrame, None),
        ];
        let planned = plan("tasks/vidu/1/", &artifacts, None);
        assert_eq!(
            stems(&planned),
            ["tasks/vidu/1/cover", "tasks/vidu/1/video", "tasks/vidu/1/video-2", "tasks/vidu/1/last-frame"]
        );
    }

    #[test]
    fn a_watermarked_video_is_copied_only_where_there_is_no_other_or_somebody_wants_it() {
        let both = [artifact(Kind::WatermarkedVideo, None), artifact(Kind::Video, None)];
        assert_eq!(stems(&plan("", &both, None)), ["video"]);
        assert_eq!(stems(&plan("", &both[..1], None)), ["video-watermarked"]);
        let wanted = [Kind::Video, Kind::WatermarkedVideo];
        assert_eq!(stems(&plan("", &both, Some(&wanted))), ["video", "video-watermarked"]);
    }

    fn stored_video() -> StoredArtifact {
        StoredArtifact {
            kind: Kind::Video,
            key: "tasks/vidu/1/video.mp4".to_owned(),
            bytes: 7,
            checksum: Checksum { algorithm: "CRC64NVME".to_owned(), value: "AAAAAAAAAAA=".to_owned() },
            content_type: "video/mp4".to_owned(),
        }
    }

    fn done(kind: Kind, one: One) -> (Planned, One) {
        (Planned { artifact: artifact(kind, None), number: 1, key_stem: String::new() }, one)
    }

    #[test]
    fn a_result_without_its_cover_is_one_and_without_its_video_is_lost() {
        let without_cover = conclude(vec![
            done(Kind::Cover, One::Missing("gone".into())),
            done(Kind::Video, One::Stored(stored_video())),
        ]);
        assert!(matches!(without_cover, Copied::All { missing, .. } if missing.len() == 1));
        let without_anything = conclude(vec![done(Kind::WatermarkedVideo, One::Missing("gone".into()))]);
        assert!(matches!(without_anything, Copied::Lost { .. }));
        let without_video = conclude(vec![done(Kind::Video, One::Missing("gone".into()))]);
        let Copied::Lost { failure, .. } = without_video else { panic!("it is lost") };
        assert_eq!(failure.message.as_deref(), Some("video 1: gone"));
    }

    #[test]
    fn nothing_is_given_up_while_another_artifact_is_still_tried() {
        let at = Timestamp::from_seconds(7);
        let still_tried = One::Later { at, upload: None, reason: "not yet".into() };
        let both = conclude(vec![done(Kind::Video, One::Missing("gone".into())), done(Kind::Audio, still_tried)]);
        let Copied::Later { at: then, trouble, .. } = both else { panic!("it is tried again") };
        assert_eq!((then, trouble.as_str()), (at, "audio 1: not yet"));
    }
}
