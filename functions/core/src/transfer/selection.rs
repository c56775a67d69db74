//! Which artifacts of a report are copied, under which names, in which order.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::report::{Artifact, Kind};

/// An artifact that is to be copied, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// As the report names it.
    pub artifact: Artifact,
    /// Its position among the artifacts of its kind in the report, from 1.
    pub ordinal: usize,
    /// Whether the task is lost without it: it is a result of its own, or none of the planned ones is.
    pub essential: bool,
    /// Name of the file in the bucket, without prefix and extension: `video-2`.
    pub name: String,
    /// S3 key without extension. The extension follows from the file's bytes.
    pub key_stem: String,
}

/// Which artifacts are copied, and to where: `video`, `video-2`, `cover`, … Names follow the order of the report, the order
/// of the work follows the expiry. `wanted` are the kinds that the settings name; without them everything is copied but a
/// watermarked video beside a clean one.
pub fn plan(prefix: &str, artifacts: &[Artifact], wanted: Option<&[Kind]>) -> Vec<Planned> {
    let has_clean_video = artifacts.iter().any(|artifact| artifact.kind == Kind::Video);
    let is_wanted = |kind: Kind| match wanted {
        Some(kinds) => kinds.contains(&kind),
        None => kind != Kind::WatermarkedVideo || !has_clean_video,
    };
    let any_essential = artifacts.iter().any(|artifact| is_wanted(artifact.kind) && artifact.kind.is_essential());
    let mut ordinals = BTreeMap::<Kind, usize>::new();
    let mut planned = Vec::new();
    for artifact in artifacts {
        let kind = artifact.kind;
        let ordinal = ordinals.entry(kind).or_default();
        *ordinal += 1;
        if !is_wanted(kind) {
            continue;
        }
        let stem = kind.file_stem();
        let name = if *ordinal == 1 { stem.to_owned() } else { format!("{stem}-{ordinal}") };
        planned.push(Planned {
            artifact: artifact.clone(),
            ordinal: *ordinal,
            essential: kind.is_essential() || !any_essential,
            key_stem: format!("{prefix}{name}"),
            name,
        });
    }
    planned.sort_by_key(|planned| {
        (planned.artifact.expires_at.map_or(i64::MAX, Timestamp::seconds), !planned.artifact.kind.is_essential())
    });
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redacted::SignedUrl;
    use crate::report::Source;

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
        assert_eq!((planned[2].name.as_str(), planned[2].ordinal), ("video-2", 2));
    }

    #[test]
    fn a_watermarked_video_is_copied_only_where_there_is_no_other_or_somebody_wants_it() {
        let both = [artifact(Kind::WatermarkedVideo, None), artifact(Kind::Video, None)];
        assert_eq!(stems(&plan("", &both, None)), ["video"]);
        assert_eq!(stems(&plan("", &both[..1], None)), ["video-watermarked"]);
        let wanted = [Kind::Video, Kind::WatermarkedVideo];
        assert_eq!(stems(&plan("", &both, Some(&wanted))), ["video", "video-watermarked"]);
    }

    #[test]
    fn what_is_all_there_is_counts_as_essential() {
        let essential = |artifacts: &[Artifact], wanted| -> Vec<bool> {
            plan("", artifacts, wanted).iter().map(|planned| planned.essential).collect()
        };
        let both = [artifact(Kind::Video, None), artifact(Kind::Cover, None)];
        assert_eq!(essential(&both, None), [true, false]);
        assert_eq!(essential(&both, Some(&[Kind::Cover])), [true]);
        assert_eq!(essential(&[artifact(Kind::WatermarkedVideo, None)], None), [true]);
    }
}
