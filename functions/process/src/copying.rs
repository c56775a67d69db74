//! Copies the artifacts of a success. What a failure means is decided in [`reelhook_core::transfer::retry`]; here it is
//! carried out.

use futures_util::stream::{self, StreamExt as _};
use reelhook_aws::clock::now;
use reelhook_aws::copy::{Copier, CopyRequest, PriorAttempt};
use reelhook_aws::provider_client::{PollLimits, ProviderClient};
use reelhook_core::Timestamp;
use reelhook_core::credential::Credential;
use reelhook_core::record::Record;
use reelhook_core::report::{Artifact, Source};
use reelhook_core::result::StoredArtifact;
use reelhook_core::settings::ProviderSettings;
use reelhook_core::status_poll;
use reelhook_core::transfer::checkpoint::{Checkpoint, SavedUpload};
use reelhook_core::transfer::fault::CopyFault;
use reelhook_core::transfer::outcome::{ArtifactOutcome, CopyOutcome, conclude};
use reelhook_core::transfer::refresh::Refreshed;
use reelhook_core::transfer::retry::{ArtifactState, CopyStep, after_failure, after_round, needs_fresh_link};
use reelhook_core::transfer::selection::{Planned, plan};
use tokio::time::Instant;

/// Artifacts of one task copied side by side. The copier shares its memory among all copies of the invocation; a task has
/// rarely more than three files.
const MAX_CONCURRENT_COPIES: usize = 3;

/// What the copies of one task work with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyContext<'a> {
    pub(crate) copier: &'a Copier,
    pub(crate) providers: &'a ProviderClient,
    /// Those of the task's provider.
    pub(crate) settings: &'a ProviderSettings,
    pub(crate) record: &'a Record,
    pub(crate) deadline: Instant,
}

/// Copies what the report names and the settings want, nearest expiry first.
pub(crate) async fn copy(context: CopyContext<'_>, artifacts: &[Artifact]) -> CopyOutcome {
    let CopyContext { record, settings, .. } = context;
    let mut checkpoints = record.checkpoints.clone();
    let planned = plan(&record.task.prefix(), artifacts, settings.artifacts.as_deref());
    let work: Vec<_> = planned
        .into_iter()
        .map(|planned| {
            let checkpoint = checkpoints.take(&planned.name);
            (planned, checkpoint)
        })
        .collect();
    // Of artifacts that are not wanted any more.
    for upload in checkpoints.into_uploads() {
        context.copier.abort_upload(&upload).await;
    }
    let done = stream::iter(work)
        .map(|(planned, before)| async move {
            let (outcome, checkpoint) = copy_artifact(context, &planned, &before).await;
            (planned, outcome, checkpoint)
        })
        .buffer_unordered(MAX_CONCURRENT_COPIES)
        .collect()
        .await;
    conclude(done)
}

/// Copies one artifact, with the link of the report and at most one fresh link besides.
async fn copy_artifact(
    context: CopyContext<'_>,
    planned: &Planned,
    before: &Checkpoint,
) -> (ArtifactOutcome, Checkpoint) {
    let mut upload = before.upload.clone();
    let mut refreshed = None;
    let mut attempted = match existing(context, planned).await {
        Ok(Some(stored)) => return (ArtifactOutcome::Stored(stored), Checkpoint::default()),
        Ok(None) => {
            if needs_fresh_link(&planned.artifact, now()) {
                refreshed = Some(refresh(context, planned).await);
            }
            copy_once(context, planned, refreshed.as_ref(), &mut upload).await
        }
        Err(fault) => Err(fault),
    };
    loop {
        let fault = match attempted {
            Ok(stored) => return (ArtifactOutcome::Stored(stored), Checkpoint::default()),
            Err(fault) => fault,
        };
        let checkpoint = after_round(before, &fault, upload.clone());
        let step = after_failure(&fault, &state(context.record, planned, refreshed.as_ref(), &checkpoint), now());
        attempted = match step {
            CopyStep::Refresh => {
                let result = refresh(context, planned).await;
                let is_fresh = matches!(result, Refreshed::Fresh(_));
                refreshed = Some(result);
                if is_fresh { copy_once(context, planned, refreshed.as_ref(), &mut upload).await } else { Err(fault) }
            }
            CopyStep::UseExisting(existing) => return (ArtifactOutcome::Stored(existing), Checkpoint::default()),
            CopyStep::Retry { at } => {
                if let CopyFault::Storage { .. } = fault {
                    tracing::error!(task = %context.record.task, error = %fault, next_attempt_at = %at, "bucket unavailable");
                }
                return (ArtifactOutcome::Retry { at, reason: fault.to_string() }, checkpoint);
            }
            CopyStep::Resume => return (ArtifactOutcome::OutOfTime, checkpoint),
            CopyStep::Missing { reason } | CopyStep::Lost { reason } => {
                if let Some(upload) = &checkpoint.upload {
                    context.copier.abort_upload(upload).await;
                }
                return (ArtifactOutcome::GivenUp { reason }, Checkpoint { upload: None, ..checkpoint });
            }
        };
    }
}

fn state<'a>(
    record: &Record,
    planned: &'a Planned,
    refreshed: Option<&'a Refreshed>,
    checkpoint: &'a Checkpoint,
) -> ArtifactState<'a> {
    ArtifactState {
        planned,
        reported_at: reported_at(record),
        usual_link_life: record.task.provider().adapter().profile().link_life,
        refreshed,
        checkpoint,
    }
}

fn reported_at(record: &Record) -> Timestamp {
    record.reported_at.unwrap_or_else(now)
}

/// Whether an earlier worker may have copied something of this task.
fn prior_attempt(record: &Record) -> PriorAttempt {
    if record.fencing_token > 1 { PriorAttempt::Possible } else { PriorAttempt::None }
}

/// The copy of an earlier worker, which may have died over the next artifact; the link may be dead by now.
async fn existing(context: CopyContext<'_>, planned: &Planned) -> Result<Option<StoredArtifact>, CopyFault> {
    match prior_attempt(context.record) {
        PriorAttempt::None => Ok(None),
        PriorAttempt::Possible => {
            let (record, kind) = (context.record, planned.artifact.kind);
            context.copier.stored(&record.task, &planned.key_stem, kind, reported_at(record)).await
        }
    }
}

/// Copies from the fresh link, if there is one, or from that of the report.
async fn copy_once(
    context: CopyContext<'_>,
    planned: &Planned,
    refreshed: Option<&Refreshed>,
    upload: &mut Option<SavedUpload>,
) -> Result<StoredArtifact, CopyFault> {
    let (artifact, is_fresh) = match refreshed {
        Some(Refreshed::Fresh(fresh)) => (fresh, true),
        _ => (&planned.artifact, false),
    };
    let (link, credential) = match &artifact.source {
        Source::Url(link) => (link, None),
        Source::Authorized(link) => (link, Credential::of(context.record.task.provider(), context.settings)),
        Source::FileId(_) => return Err(CopyFault::NoLink),
    };
    let request = CopyRequest {
        task: &context.record.task,
        link,
        credential,
        key_stem: &planned.key_stem,
        kind: planned.artifact.kind,
        tagging: context.record.annotations.tagging(),
        reported_at: reported_at(context.record),
        expires_at: artifact.expires_at,
        deadline: context.deadline,
        prior: prior_attempt(context.record),
        resume: upload.take(),
    };
    let failure = match context.copier.copy(request).await {
        Ok(stored) => return Ok(stored),
        Err(failure) => failure,
    };
    *upload = failure.upload;
    let (kind, ordinal, error) = (planned.artifact.kind.name(), planned.ordinal, &failure.fault);
    tracing::warn!(task = %context.record.task, kind, ordinal, %link, is_fresh, %error, "copy failed");
    Err(failure.fault)
}

/// Requests another link: by the provider's call that makes links, or by the status of the task.
async fn refresh(context: CopyContext<'_>, planned: &Planned) -> Refreshed {
    if !context.settings.has_credentials() {
        return Refreshed::NoOtherLink;
    }
    let held = &planned.artifact;
    let made = match make_link(context, held).await {
        Some(made) => made.unless_held(held),
        None => Refreshed::NoOtherLink,
    };
    match made {
        Refreshed::Fresh(_) => made,
        _ => made.or(link_in_status(context, planned).await),
    }
}

/// The link that the status of the task gives now.
async fn link_in_status(context: CopyContext<'_>, planned: &Planned) -> Refreshed {
    let CopyContext { record, settings, providers, .. } = context;
    let polled = providers.poll_task(record, settings, PollLimits::ONE_TASK, now()).await;
    match status_poll::fresh_link(&polled.result, planned) {
        Refreshed::Fresh(artifact @ Artifact { source: Source::FileId(_), .. }) => {
            make_link(context, &artifact).await.unwrap_or(Refreshed::NoOtherLink)
        }
        refreshed => refreshed,
    }
}

/// A link out of the provider's call that makes links. None where the provider has no such call for this artifact.
async fn make_link(context: CopyContext<'_>, artifact: &Artifact) -> Option<Refreshed> {
    let task = &context.record.task;
    let adapter = task.provider().adapter();
    let request = adapter.resolution(artifact, context.settings, now())?;
    let response = match context.providers.send(&request, now()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%task, %error, "request for a fresh link failed");
            return Some(Refreshed::NoResponse);
        }
    };
    Some(match adapter.read_resolution(&response, now()) {
        Ok(fresh) => {
            let (kind, expires_at) = (artifact.kind, fresh.expires_at);
            Refreshed::Fresh(Artifact { kind, source: Source::Url(fresh.url), expires_at })
        }
        Err(failure) => {
            let (reason, code) = (failure.reason.name(), failure.code.as_deref());
            tracing::warn!(%task, reason, code, "provider gave no fresh link");
            Refreshed::in_refusal(response.status, &failure)
        }
    })
}
