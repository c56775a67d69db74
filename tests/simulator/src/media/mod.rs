//! Real media, generated on the fly: playable videos and pictures that differ from task to task.
//!
//! Everything is a pure function of a seed (task id and file name), so a test can compute the exact bytes that a link
//! serves. A video is never held in memory: [`Content::read_at`] computes any part of it, so a file of many gigabytes costs
//! no more than its index.

mod h264;
mod mp4;
mod picture;

pub use mp4::Video;

use bytes::Bytes;
use picture::Picture;

/// The bytes behind a link.
#[derive(Clone, Debug)]
pub enum Content {
    /// An MP4 with one H.264 track.
    Video(Box<Video>),
    /// A picture or any other small file, with its media type.
    Still {
        /// The whole file.
        bytes: Bytes,
        /// Its media type.
        content_type: &'static str,
    },
}

impl Content {
    /// A video of about `size` bytes (exactly `size` if that is a few kilobytes or more). `None` gives five seconds and some
    /// 280 KB.
    pub fn video(seed: &str, size: Option<u64>) -> Self {
        Self::Video(Box::new(Video::new(seed, size)))
    }

    /// A PNG of the same picture as the video with this seed.
    pub fn png(seed: &str) -> Self {
        Self::Still { bytes: Picture::new(seed).png().into(), content_type: "image/png" }
    }

    /// A JPEG of the same picture as the video with this seed.
    pub fn jpeg(seed: &str) -> Self {
        Self::Still { bytes: Picture::new(seed).jpeg().into(), content_type: "image/jpeg" }
    }

    /// The media type.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Video(_) => "video/mp4",
            Self::Still { content_type, .. } => content_type,
        }
    }

    /// Width and height in pixels of a video.
    pub fn dimensions(&self) -> Option<(u32, u32)> {
        match self {
            Self::Video(video) => Some((video.width(), video.height())),
            Self::Still { .. } => None,
        }
    }

    /// The duration of a video in seconds; 0 for a picture.
    pub fn seconds(&self) -> u64 {
        match self {
            Self::Video(video) => video.seconds(),
            Self::Still { .. } => 0,
        }
    }

    /// The length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Video(video) => video.length(),
            Self::Still { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Reads from `offset` into `buffer` and returns the number of bytes: fewer than fit only at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        match self {
            Self::Video(video) => video.read_at(offset, buffer),
            Self::Still { bytes, .. } => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                length
            }
        }
    }

    /// The whole file, for files that fit in memory.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length()).unwrap_or(usize::MAX)];
        let length = self.read_at(0, &mut bytes);
        bytes.truncate(length);
        bytes
    }
}

/// A gzip file with `data` in stored (uncompressed) blocks.
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend(picture::deflate_stored(data));
    file.extend(picture::crc32(data).to_le_bytes());
    file.extend(u32::try_from(data.len() & 0xffff_ffff).unwrap_or_default().to_le_bytes());
    file
}

/// A 64-bit digest (FNV-1a, then the finaliser of `SplitMix64`): spreads a seed over colours, patterns and entity tags.
/// Not for secrets.
pub(crate) fn digest(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mix(hash)
}

/// The finaliser of `SplitMix64`.
pub(crate) fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
