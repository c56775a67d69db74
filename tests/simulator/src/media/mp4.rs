//! The container: `ftyp`, `moov` before the media (so that playback can start at once), `mdat`, and a `free` box that pads
//! the file to the requested length.

use super::{
    digest,
    h264::{GROUP, Group, RATE, Size, picture_parameters, sequence_parameters},
    picture::Picture,
};

/// Frame sizes, largest first.
const SIZES: [Size; 6] = [
    Size { columns: 80, rows: 45 },
    Size { columns: 32, rows: 18 },
    Size { columns: 16, rows: 9 },
    Size { columns: 8, rows: 5 },
    Size { columns: 4, rows: 3 },
    Size { columns: 2, rows: 2 },
];
/// The defaults without a requested length: 256 by 144 pixels, five seconds.
const DEFAULT_SIZE: Size = SIZES[2];
const DEFAULT_SECONDS: u64 = 5;
/// The largest frame that leaves at least this many seconds is used.
const MIN_SECONDS: u64 = 5;
/// Length and name of a box, which is also the minimum length of `free`.
const BOX_HEADER: u64 = 8;

/// A playable video, computed as it is read.
#[derive(Clone, Debug)]
pub struct Video {
    size: Size,
    header: Vec<u8>,
    group: Group,
    seconds: u64,
    padding: u64,
    filler: u8,
}

impl Video {
    /// The video of a seed, of exactly `size` bytes, unless those are too few for a single frame.
    pub(super) fn new(seed: &str, size: Option<u64>) -> Self {
        let picture = Picture::new(seed);
        let Some(target) = size else {
            return Self::with(seed, picture, DEFAULT_SIZE, DEFAULT_SECONDS, 0);
        };
        for size in SIZES {
            let group = Group::new(picture, size);
            let mut seconds = target / (group.length() + index_length(1));
            while seconds > 0 && (seconds >= MIN_SECONDS || size == SIZES[SIZES.len() - 1]) {
                let video = Self::with(seed, picture, size, seconds, 0);
                match target.checked_sub(video.length()) {
                    Some(0) => return video,
                    Some(padding) if padding >= BOX_HEADER => {
                        return Self { padding, ..video };
                    }
                    _ => seconds -= 1,
                }
            }
        }
        Self::with(seed, picture, SIZES[SIZES.len() - 1], 1, 0)
    }

    fn with(seed: &str, picture: Picture, size: Size, seconds: u64, padding: u64) -> Self {
        let group = Group::new(picture, size);
        // The offsets in the header depend on its own length, which does not depend on the offsets.
        let length = header(seed, size, &group, seconds, 0).len() as u64;
        let header = header(seed, size, &group, seconds, length);
        let filler = u8::try_from(digest(seed) & 0x7f).unwrap_or_default() | 1;
        Self { size, header, group, seconds, padding, filler }
    }

    /// The length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.header.len() as u64 + self.seconds * self.group.length() + self.padding
    }

    /// Its duration in seconds.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.size.columns * 16
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.size.rows * 16
    }

    /// Frames per second.
    pub fn frame_rate(&self) -> u32 {
        RATE
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let header = self.header.len() as u64;
        let media = self.seconds * self.group.length();
        let mut written = 0;
        while written < buffer.len() {
            let position = offset + written as u64;
            let target = &mut buffer[written..];
            let copied = if position < header {
                let rest = &self.header[usize::try_from(position).unwrap_or(usize::MAX)..];
                let length = rest.len().min(target.len());
                target[..length].copy_from_slice(&rest[..length]);
                length
            } else if position < header + media {
                let inside = position - header;
                let number = inside / self.group.length();
                self.group.read_at(number, self.seconds, inside % self.group.length(), target)
            } else if position < header + media + self.padding {
                let inside = position - header - media;
                let mut free = u32::try_from(self.padding).unwrap_or(u32::MAX).to_be_bytes().to_vec();
                free.extend(b"free");
                if let Some(rest) =
                    usize::try_from(inside).ok().and_then(|inside| free.get(inside..)).filter(|rest| !rest.is_empty())
                {
                    let length = rest.len().min(target.len());
                    target[..length].copy_from_slice(&rest[..length]);
                    length
                } else {
                    let length = target.len().min(usize::try_from(self.padding - inside).unwrap_or(usize::MAX));
                    target[..length].fill(self.filler);
                    length
                }
            } else {
                break;
            };
            written += copied;
        }
        written
    }
}

/// Bytes that `seconds` add to the index: a length per frame, an offset and a key frame number per second.
fn index_length(seconds: u64) -> u64 {
    seconds * (u64::from(GROUP) * 4 + 8)
}

/// Writes a box whose content `fill` writes.
fn put_box(out: &mut Vec<u8>, name: [u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(name);
    fill(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend(value.to_be_bytes());
    }
}

fn shorts(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend(value.to_be_bytes());
    }
}

const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

/// Everything before the first frame, whose offset in the file is `media_offset`.
fn header(seed: &str, size: Size, group: &Group, seconds: u64, media_offset: u64) -> Vec<u8> {
    let duration = u32::try_from(seconds * u64::from(GROUP)).unwrap_or(u32::MAX);
    let (width, height) = (size.columns * 16, size.rows * 16);
    let mut out = Vec::new();
    put_box(&mut out, *b"ftyp", |out| out.extend(b"isom\0\0\x02\0isomiso2avc1mp41"));
    put_box(&mut out, *b"moov", |out| {
        put_box(out, *b"mvhd", |out| {
            words(out, &[0, 0, 0, RATE, duration, 0x0001_0000]);
            shorts(out, &[0x0100, 0]);
            words(out, &[0, 0]);
            words(out, &MATRIX);
            words(out, &[0, 0, 0, 0, 0, 0, 2]);
        });
        put_box(out, *b"trak", |out| {
            put_box(out, *b"tkhd", |out| {
                words(out, &[3, 0, 0, 1, 0, duration, 0, 0, 0, 0]);
                words(out, &MATRIX);
                words(out, &[width << 16, height << 16]);
            });
            put_box(out, *b"mdia", |out| {
                put_box(out, *b"mdhd", |out| {
                    words(out, &[0, 0, 0, RATE, duration]);
                    shorts(out, &[0x55c4, 0]);
                });
                put_box(out, *b"hdlr", |out| {
                    words(out, &[0, 0]);
                    out.extend(b"vide");
                    words(out, &[0, 0, 0]);
                    out.extend(b"video\0");
                });
                put_box(out, *b"minf", |out| {
                    put_box(out, *b"vmhd", |out| words(out, &[1, 0, 0]));
                    put_box(out, *b"dinf", |out| {
                        put_box(out, *b"dref", |out| {
                            words(out, &[0, 1]);
                            put_box(out, *b"url ", |out| words(out, &[1]));
                        });
                    });
                    put_box(out, *b"stbl", |out| sample_table(out, size, group, seconds, media_offset));
                });
            });
        });
        put_box(out, *b"udta", |out| {
            put_box(out, *b"\xa9nam", |out| {
                shorts(out, &[u16::try_from(seed.len()).unwrap_or(u16::MAX), 0x15c7]);
                out.extend(seed.bytes().take(usize::from(u16::MAX)));
            });
        });
    });
    let media = seconds * group.length();
    if let Ok(length) = u32::try_from(media + BOX_HEADER) {
        words(&mut out, &[length]);
        out.extend(b"mdat");
    } else {
        words(&mut out, &[1]);
        out.extend(b"mdat");
        out.extend((media + BOX_HEADER + 8).to_be_bytes());
    }
    out
}

fn sample_table(out: &mut Vec<u8>, size: Size, group: &Group, seconds: u64, media_offset: u64) {
    let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let chunks = count(seconds);
    let samples = count(seconds * u64::from(GROUP));
    let dimension = |blocks: u32| u16::try_from(blocks * 16).unwrap_or(u16::MAX);
    put_box(out, *b"stsd", |out| {
        words(out, &[0, 1]);
        put_box(out, *b"avc1", |out| {
            words(out, &[0]);
            shorts(out, &[0, 1, 0, 0]);
            words(out, &[0, 0, 0]);
            shorts(out, &[dimension(size.columns), dimension(size.rows)]);
            words(out, &[0x0048_0000, 0x0048_0000, 0]);
            shorts(out, &[1]);
            out.extend([0; 32]);
            shorts(out, &[24, 0xffff]);
            put_box(out, *b"avcC", |out| {
                let sequence = sequence_parameters(size);
                let picture = picture_parameters();
                out.push(1);
                out.extend_from_slice(&sequence[1..4]);
                out.extend([0xff, 0xe1]);
                shorts(out, &[u16::try_from(sequence.len()).unwrap_or(u16::MAX)]);
                out.extend(sequence);
                out.push(1);
                shorts(out, &[u16::try_from(picture.len()).unwrap_or(u16::MAX)]);
                out.extend(picture);
            });
        });
    });
    put_box(out, *b"stts", |out| words(out, &[0, 1, samples, 1]));
    put_box(out, *b"stss", |out| {
        words(out, &[0, chunks]);
        for chunk in 0..chunks {
            words(out, &[chunk * GROUP + 1]);
        }
    });
    put_box(out, *b"stsc", |out| words(out, &[0, 1, 1, GROUP, 1]));
    put_box(out, *b"stsz", |out| {
        words(out, &[0, 0, samples]);
        for _ in 0..chunks {
            words(out, &group.frames);
        }
    });
    // One chunk is one second. If the last offset needs 64 bits, all get them.
    let large = seconds * (group.length() + index_length(1)) + 4096 > u64::from(u32::MAX);
    put_box(out, if large { *b"co64" } else { *b"stco" }, |out| {
        words(out, &[0, chunks]);
        for chunk in 0..seconds {
            let offset = media_offset + chunk * group.length();
            if large {
                out.extend(offset.to_be_bytes());
            } else {
                words(out, &[count(offset)]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(video: &Video) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(video.length()).expect("fits")];
        assert_eq!(video.read_at(0, &mut bytes), bytes.len());
        bytes
    }

    fn number(bytes: &[u8]) -> usize {
        u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")) as usize
    }

    /// The boxes directly inside `bytes`: name and body.
    fn boxes(mut bytes: &[u8]) -> Vec<(String, &[u8])> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = number(bytes);
            assert!(length >= 8 && length <= bytes.len(), "a box of {length} in {}", bytes.len());
            found.push((String::from_utf8_lossy(&bytes[4..8]).into_owned(), &bytes[8..length]));
            bytes = &bytes[length..];
        }
        found
    }

    fn inside<'a>(bytes: &'a [u8], path: &[&str]) -> &'a [u8] {
        path.iter().fold(bytes, |bytes, name| {
            boxes(bytes).into_iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("no {name}")).1
        })
    }

    #[test]
    fn the_index_locates_every_frame() {
        let video = Video::new("index", None);
        let file = bytes(&video);
        let names: Vec<String> = boxes(&file).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ftyp", "moov", "mdat"]);

        let table = inside(&file, &["moov", "trak", "mdia", "minf", "stbl"]);
        let sizes = inside(table, &["stsz"]);
        let offsets = inside(table, &["stco"]);
        assert_eq!(number(&sizes[8..]), 120, "five seconds of 24 frames");
        assert_eq!(number(&offsets[4..]), 5);
        for chunk in 0..5 {
            let mut position = number(&offsets[8 + chunk * 4..]);
            for frame in 0..24 {
                let length = number(&sizes[12 + (chunk * 24 + frame) * 4..]);
                assert_eq!(number(&file[position..]) + 4, length, "the length in the stream is that of the index");
                let expected = if frame == 0 { 0x65 } else { 0x41 };
                assert_eq!(file[position + 4], expected, "frame {frame} of chunk {chunk}");
                position += length;
            }
        }
    }

    #[test]
    fn the_media_contains_no_start_code() {
        let video = Video::new("start code", Some(100_000));
        let file = bytes(&video);
        let table = inside(&file, &["moov", "trak", "mdia", "minf", "stbl"]);
        let key_frame = number(&inside(table, &["stsz"])[12..]);
        let start = number(&inside(table, &["stco"])[8..]);
        let unit = &file[start + 4..start + key_frame];
        assert!(!unit.windows(3).any(|window| window[0] == 0 && window[1] == 0 && window[2] <= 3));
    }

    #[test]
    fn a_requested_length_is_met_exactly() {
        for size in [4_000, 10_000, 99_999, 100_000, 1_000_000, 12_345_678] {
            let video = Video::new("exact", Some(size));
            assert_eq!(video.length(), size);
        }
        assert!(Video::new("exact", Some(10)).length() < 4_000, "too few for a frame: the smallest video");
        let file = bytes(&Video::new("exact", Some(100_001)));
        assert_eq!(file.len(), 100_001);
        let _ = boxes(&file);
    }

    #[test]
    fn files_over_4_gib_have_64_bit_offsets() {
        let video = Video::new("large", Some(6_000_000_000));
        assert_eq!(video.length(), 6_000_000_000);
        let moov = boxes_until_media(&video);
        assert!(moov.windows(4).any(|window| window == b"co64"));
        let mut end = [0; 16];
        assert_eq!(video.read_at(video.length() - 10, &mut end), 10);
        assert_eq!(video.read_at(video.length(), &mut end), 0);
    }

    fn boxes_until_media(video: &Video) -> Vec<u8> {
        let mut bytes = vec![0; video.header.len()];
        video.read_at(0, &mut bytes);
        bytes
    }

    #[test]
    fn a_range_equals_that_range_of_the_whole_file() {
        let video = Video::new("parts", Some(50_003));
        let file = bytes(&video);
        for (from, length) in [(0, 10), (700, 1_000), (20_000, 386), (49_990, 13), (49_995, 8)] {
            let mut part = vec![0; length];
            let read = video.read_at(from as u64, &mut part);
            assert_eq!(part[..read], file[from..from + read]);
            assert_eq!(read, length.min(file.len() - from));
        }
    }

    #[test]
    fn different_seeds_give_different_bytes() {
        assert_ne!(bytes(&Video::new("one", None)), bytes(&Video::new("two", None)));
        assert_eq!(bytes(&Video::new("one", None)), bytes(&Video::new("one", None)));
    }
}
