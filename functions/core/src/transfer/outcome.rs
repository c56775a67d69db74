//! What the copies of a task's artifacts come to together.

use super::checkpoint::{Checkpoint, Checkpoints};
use super::selection::Planned;
use crate::Timestamp;
use crate::report::{Failure, Reason, shortened};
use crate::result::{MissingArtifact, StoredArtifact};

/// What became of one artifact in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactOutcome {
    /// It is in the bucket.
    Stored(StoredArtifact),
    /// It is given up.
    GivenUp {
        /// Why.
        reason: String,
    },
    /// It is tried again.
    Retry {
        /// When.
        at: Timestamp,
        /// Why it is not there yet.
        reason: String,
    },
    /// The invocation ended over it; the copy is resumed at once.
    OutOfTime,
}

/// What one round came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// Everything essential is in the bucket.
    Complete {
        /// What is there.
        stored: Vec<StoredArtifact>,
        /// Covers and the like that were given up.
        missing: Vec<MissingArtifact>,
    },
    /// Something essential was given up.
    Lost {
        /// Why.
        failure: Failure,
        /// What is there.
        stored: Vec<StoredArtifact>,
        /// What is not.
        missing: Vec<MissingArtifact>,
    },
    /// Another round may do better.
    Retry {
        /// When.
        at: Timestamp,
        /// What it resumes.
        checkpoints: Checkpoints,
        /// Which file is not there yet, and why.
        last_error: String,
    },
    /// The invocation is about to end, another one resumes at once.
    OutOfTime {
        /// What it resumes.
        checkpoints: Checkpoints,
    },
}

/// Puts the outcomes of a round together. Nothing is given up while any artifact is still tried; for how long that is, and
/// that a cover does not hold a video back for long, is decided in [`retry`](super::retry).
pub fn conclude(mut done: Vec<(Planned, ArtifactOutcome, Checkpoint)>) -> CopyOutcome {
    // In the order of their names, whatever order they finished in.
    done.sort_by_key(|(planned, ..)| (planned.artifact.kind, planned.ordinal));
    let (mut stored, mut missing) = (vec![], vec![]);
    let (mut lost, mut optional) = (None::<String>, None::<String>);
    let (mut retry, mut out_of_time) = (None::<(Timestamp, String)>, false);
    let mut checkpoints = Checkpoints::default();
    for (planned, outcome, checkpoint) in done {
        let kind = planned.artifact.kind;
        let named = |reason: &str| format!("{} {}: {reason}", kind.name(), planned.ordinal);
        match outcome {
            ArtifactOutcome::Stored(artifact) => {
                stored.push(artifact);
                continue;
            }
            ArtifactOutcome::GivenUp { reason } => {
                let given_up = if kind.is_essential() { &mut lost } else { &mut optional };
                given_up.get_or_insert_with(|| named(&reason));
                missing.push(MissingArtifact { kind, reason });
            }
            ArtifactOutcome::Retry { at, reason } => {
                // One reason is enough to know; the log has all.
                let (earliest, first) = retry.unwrap_or_else(|| (at, named(&reason)));
                retry = Some((earliest.min(at), first));
            }
            ArtifactOutcome::OutOfTime => out_of_time = true,
        }
        checkpoints.insert(&planned.name, checkpoint);
    }
    // Where nothing essential was named, one file of those named makes a result.
    let lost = lost.or(optional.filter(|_| stored.is_empty()));
    match (out_of_time, retry, lost) {
        (true, _, _) => CopyOutcome::OutOfTime { checkpoints },
        (false, Some((at, reason)), _) => CopyOutcome::Retry { at, checkpoints, last_error: shortened(&reason) },
        (false, None, Some(message)) => {
            CopyOutcome::Lost { failure: Failure::new(Reason::Expired, true).message(message), stored, missing }
        }
        (false, None, None) => CopyOutcome::Complete { stored, missing },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redacted::SignedUrl;
    use crate::report::{Artifact, Kind, Source};
    use crate::result::Checksum;
    use crate::transfer::selection::plan;

    fn stored(kind: Kind) -> ArtifactOutcome {
        ArtifactOutcome::Stored(StoredArtifact {
            kind,
            key: format!("tasks/vidu/1/{}.mp4", kind.file_stem()),
            bytes: 7,
            checksum: Checksum { algorithm: "CRC64NVME".to_owned(), value: "AAAAAAAAAAA=".to_owned() },
            content_type: "video/mp4".to_owned(),
        })
    }

    fn given_up() -> ArtifactOutcome {
        ArtifactOutcome::GivenUp { reason: "gone".to_owned() }
    }

    fn retry(at: i64, reason: &str) -> ArtifactOutcome {
        ArtifactOutcome::Retry { at: Timestamp::from_seconds(at), reason: reason.to_owned() }
    }

    fn concluded(outcomes: impl IntoIterator<Item = (Kind, ArtifactOutcome)>) -> CopyOutcome {
        let outcomes = outcomes.into_iter().map(|(kind, outcome)| {
            let source = Source::Url(SignedUrl::new("https://cdn.example.com/a"));
            let planned = plan("", &[Artifact { kind, source, expires_at: None }], Some(&[kind]));
            let planned = planned.into_iter().next().expect("it is planned");
            (planned, outcome, Checkpoint { failed_rounds: 1, ..Checkpoint::default() })
        });
        conclude(outcomes.collect())
    }

    #[test]
    fn a_result_without_its_cover_is_complete_and_without_its_video_is_lost() {
        let without_cover = concluded([(Kind::Cover, given_up()), (Kind::Video, stored(Kind::Video))]);
        assert!(matches!(without_cover, CopyOutcome::Complete { missing, .. } if missing.len() == 1));
        let without_video = concluded([(Kind::Cover, stored(Kind::Cover)), (Kind::Video, given_up())]);
        let CopyOutcome::Lost { failure, .. } = without_video else { panic!("it is lost") };
        assert_eq!(failure.message.as_deref(), Some("video 1: gone"));
    }

    #[test]
    fn without_anything_essential_one_file_makes_a_result() {
        let none = concluded([(Kind::WatermarkedVideo, given_up())]);
        let CopyOutcome::Lost { failure, .. } = none else { panic!("it is lost") };
        assert_eq!(failure.message.as_deref(), Some("watermarked_video 1: gone"));
        let one = concluded([(Kind::WatermarkedVideo, given_up()), (Kind::Cover, stored(Kind::Cover))]);
        assert!(matches!(one, CopyOutcome::Complete { .. }));
        assert!(matches!(concluded([]), CopyOutcome::Complete { .. }));
    }

    #[test]
    fn nothing_is_given_up_while_another_artifact_is_still_tried() {
        let both = concluded([
            (Kind::Video, given_up()),
            (Kind::Image, retry(9, "not yet either")),
            (Kind::Audio, retry(7, "not yet")),
        ]);
        let CopyOutcome::Retry { at, last_error, mut checkpoints } = both else { panic!("it is tried again") };
        assert_eq!((at.seconds(), last_error.as_str()), (7, "image 1: not yet either"));
        assert_eq!(checkpoints.take("video").failed_rounds, 1, "the next round counts on");
    }

    #[test]
    fn a_copy_cut_short_is_resumed_before_anything_waits() {
        let both = concluded([(Kind::Video, ArtifactOutcome::OutOfTime), (Kind::Cover, retry(7, "not yet"))]);
        assert!(matches!(both, CopyOutcome::OutOfTime { .. }));
    }
}
