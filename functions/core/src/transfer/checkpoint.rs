//! What is kept of an unfinished copy between two rounds.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::parts::MAX_PIECES;
use super::ranges::SourceVersion;

/// What is kept of the unfinished copies of a task, by the name of the file in the bucket without its extension (`video-2`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checkpoints(BTreeMap<String, Checkpoint>);

impl Checkpoints {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps something for a file. What says nothing is not kept. All uploads together take no more of the record than one
    /// of [`MAX_PIECES`] parts, the most that fits. Parts beyond that are copied again.
    pub fn insert(&mut self, name: &str, mut checkpoint: Checkpoint) {
        let kept = self.0.values().filter_map(|kept| kept.upload.as_ref());
        let taken: usize = kept.map(|upload| upload.parts.0.len() + PARTS_PER_UPLOAD).sum();
        checkpoint.upload = checkpoint.upload.filter(|_| taken < MAX_SAVED_PARTS).map(|mut upload| {
            upload.parts.0.truncate(MAX_SAVED_PARTS - taken);
            upload
        });
        if checkpoint != Checkpoint::default() {
            self.0.insert(name.to_owned(), checkpoint);
        }
    }

    /// Takes out what is kept for a file.
    pub fn take(&mut self, name: &str) -> Checkpoint {
        self.0.remove(name).unwrap_or_default()
    }

    /// The uploads that are left, to be aborted when their files are not wanted any more.
    pub fn into_uploads(self) -> impl Iterator<Item = SavedUpload> {
        self.0.into_values().filter_map(|checkpoint| checkpoint.upload)
    }
}

/// What is kept of one unfinished copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// The upload, if it has a finished part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<SavedUpload>,
    /// Rounds so far that ended without the file.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_rounds: u32,
    /// The last rounds in a row in which bytes were read and no part was added.
    #[serde(skip_serializing_if = "is_zero")]
    pub stalled_rounds: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(rounds: &u32) -> bool {
    *rounds == 0
}

/// An unfinished multipart upload: enough to resume it in the next round, if the origin still has the same version of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUpload {
    /// Id of the multipart upload.
    pub id: String,
    /// Key of the object.
    pub key: String,
    /// Content type of the object, recognised when its first bytes were seen.
    pub content_type: String,
    /// The version of the file at its origin.
    pub source: SourceVersion,
    /// Size of every piece but the last.
    pub piece_size: u64,
    /// Finished parts, by number.
    pub parts: SavedParts,
}

/// A finished part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPart {
    /// Number of the piece, from 0. The part's number is one more.
    pub piece: u16,
    /// CRC-64/NVME of its bytes.
    pub checksum: u64,
    /// Its `ETag`: 32 hexadecimal digits in every S3 there is, kept as bytes.
    pub etag: [u8; 16],
}

/// Most finished parts that are kept of all files together.
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
const MAX_SAVED_PARTS: usize = MAX_PIECES as usize;

/// What an upload takes beside its parts, in parts: its key and id, each of up to 1 KB, and the origin's `ETag`.
const PARTS_PER_UPLOAD: usize = 64;

/// Bytes of a part in the stored form.
const SAVED_PART_LENGTH: usize = 2 + 8 + 16;

/// Finished parts; stored as one Base64 text of 26 bytes a part, so that 4,000 of them stay below 140 KB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedParts(pub Vec<SavedPart>);

impl Serialize for SavedParts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * SAVED_PART_LENGTH);
        for part in &self.0 {
            bytes.extend_from_slice(&part.piece.to_be_bytes());
            bytes.extend_from_slice(&part.checksum.to_be_bytes());
            bytes.extend_from_slice(&part.etag);
        }
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for SavedParts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text).map_err(|_| Error::custom("finished parts are not Base64"))?;
        let (parts, rest) = bytes.as_chunks::<SAVED_PART_LENGTH>();
        if !rest.is_empty() {
            return Err(Error::custom("finished parts are cut off"));
        }
        let parts = parts.iter().map(|bytes| {
            let mut part = SavedPart { piece: u16::from_be_bytes([bytes[0], bytes[1]]), checksum: 0, etag: [0; 16] };
            let mut checksum = [0; 8];
            checksum.copy_from_slice(&bytes[2..10]);
            part.checksum = u64::from_be_bytes(checksum);
            part.etag.copy_from_slice(&bytes[10..]);
            part
        });
        Ok(Self(parts.collect()))
    }
}

impl SavedPart {
    /// A part. None when its `ETag` has another form than 32 hexadecimal digits: it is then copied again.
    pub fn new(piece: u64, checksum: u64, etag: &str) -> Option<Self> {
        let digits = etag.trim_matches('"').as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self { piece: u16::try_from(piece).ok()?, checksum, etag: bytes })
    }

    /// Its `ETag` as S3 wants it back.
    pub fn etag_text(&self) -> String {
        format!("\"{}\"", hex::encode(self.etag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::parts::MIN_PIECE;
    use crate::transfer::ranges::Validator;

    #[test]
    fn a_kept_upload_has_a_compact_stored_form() {
        let upload = SavedUpload {
            id: "upload".into(),
            key: "tasks/kling/job-1/video.mp4".into(),
            content_type: "video/mp4".into(),
            source: SourceVersion { length: 45_000_000, validator: Validator::Etag("\"a\"".into()) },
            piece_size: MIN_PIECE,
            parts: SavedParts(vec![
                SavedPart::new(0, 1, "\"0123456789abcdef0123456789ABCDEF\"").expect("a part"),
                SavedPart::new(3999, u64::MAX, "ffffffffffffffffffffffffffffffff").expect("a part"),
            ]),
        };
        let text = serde_json::to_string(&upload).expect("it serialises");
        assert_eq!(
            text,
            r#"{"id":"upload","key":"tasks/kling/job-1/video.mp4","content_type":"video/mp4","source":{"length":45000000,"validator":{"etag":"\"a\""}},"piece_size":8388608,"parts":"AAAAAAAAAAAAAQEjRWeJq83vASNFZ4mrze8Pn////////////////////////////////w=="}"#
        );
        assert_eq!(serde_json::from_str::<SavedUpload>(&text).expect("it reads back"), upload);
        assert_eq!(upload.parts.0[0].etag_text(), "\"0123456789abcdef0123456789abcdef\"");
        for parts in ["AAA=", "?", "AAAA"] {
            let text = text.replace("AAAAAAAAAAAAAQEjRWeJq83vASNFZ4mrze8Pn////////////////////////////////w==", parts);
            serde_json::from_str::<SavedUpload>(&text).expect_err(parts);
        }
    }

    #[test]
    fn a_kept_upload_of_as_many_pieces_as_there_can_be_fits_into_a_record() {
        let part = |piece| SavedPart::new(piece, u64::MAX, &"f".repeat(32)).expect("a part");
        let parts = SavedParts((0..MAX_PIECES).map(part).collect());
        assert!(serde_json::to_string(&parts).expect("it serialises").len() < 140_000);
    }

    /// Three files of 31 GiB that were interrupted together once made a record that could not be written.
    #[test]
    fn all_uploads_of_a_task_take_no_more_than_the_largest() {
        let upload = |parts| SavedUpload {
            id: "upload".into(),
            key: "tasks/kling/job-1/video.mp4".into(),
            content_type: "video/mp4".into(),
            source: SourceVersion { length: 1, validator: Validator::Etag("\"a\"".into()) },
            piece_size: MIN_PIECE,
            parts: SavedParts(vec![SavedPart { piece: 0, checksum: 0, etag: [0; 16] }; parts]),
        };
        let kept = |uploads: &[usize]| {
            let mut checkpoints = Checkpoints::default();
            for (name, parts) in ('a'..).zip(uploads) {
                checkpoints
                    .insert(&name.to_string(), Checkpoint { upload: Some(upload(*parts)), ..Checkpoint::default() });
            }
            checkpoints.into_uploads().map(|upload| upload.parts.0.len()).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[4000]), [4000]);
        assert_eq!(kept(&[1000, 1000, 1000]), [1000, 1000, 1000]);
        assert_eq!(kept(&[3000, 3000, 3000]), [3000, 936]);
        assert_eq!(kept(&[4000, 4000]), [4000]);
    }

    #[test]
    fn other_etags_are_not_kept() {
        for etag in
            ["", "\"0123456789abcdef0123456789abcdef-2\"", "0123456789abcdef0123456789abcdeg", "ä".repeat(16).as_str()]
        {
            assert_eq!(SavedPart::new(0, 0, etag), None, "{etag}");
        }
        assert_eq!(SavedPart::new(1 << 16, 0, &"f".repeat(32)), None);
    }
    #[test]
    fn checkpoints_are_stored_by_file_and_old_or_empty_ones_read_as_nothing() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.insert("cover", Checkpoint::default());
        assert!(checkpoints.is_empty());
        checkpoints.insert("video-2", Checkpoint { failed_rounds: 2, ..Checkpoint::default() });
        let text = serde_json::to_string(&checkpoints).expect("it serialises");
        assert_eq!(text, r#"{"video-2":{"failed_rounds":2}}"#);
        let mut read: Checkpoints = serde_json::from_str(&text).expect("it reads back");
        assert_eq!(read, checkpoints);
        assert_eq!(read.take("video-2").failed_rounds, 2);
        assert_eq!(read.take("video-2"), Checkpoint::default());
        assert_eq!(read.into_uploads().count(), 0);
    }
}
