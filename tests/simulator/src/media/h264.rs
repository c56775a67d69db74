//! Minimal valid H.264: constrained baseline, one key frame of uncompressed macroblocks (`I_PCM`) per second, and frames of
//! skipped macroblocks (`P_Skip`) in between. Every decoder plays it, and every byte can be computed independently.

use super::picture::Picture;

/// Bits, most significant first.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    pub(super) fn put(&mut self, value: u32, length: u32) {
        for position in (0..length).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> position & 1 == 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// An unsigned Exp-Golomb code.
    fn exp_golomb(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.put(0, length - 1);
        self.put(value + 1, length);
    }

    /// The end of a NAL unit: a one, then zeros up to the byte.
    fn trailing(&mut self) {
        self.put(1, 1);
        self.align();
    }

    fn align(&mut self) {
        self.used = 0;
    }

    /// The end of a JPEG scan.
    pub(super) fn fill_with_ones(&mut self) {
        while self.used != 0 {
            self.put(1, 1);
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A macroblock is 16 by 16 pixels: 256 luma samples and twice 64 chroma samples.
const SAMPLES: usize = 256 + 64 + 64;
/// `mb_type` 25 (`I_PCM`) and the zero bits up to the next byte, when the macroblock starts at a byte.
const PCM_HEADER: [u8; 2] = [0x0d, 0x00];
/// A macroblock after the first.
pub(super) const MACROBLOCK: usize = PCM_HEADER.len() + SAMPLES;
/// Frames from one key frame to the next: one second.
pub(super) const GROUP: u32 = 24;
/// Frames per second.
pub(super) const RATE: u32 = 24;

const NAL_IDR: u8 = 0x65;
const NAL_SLICE: u8 = 0x41;
const NAL_SEQUENCE: u8 = 0x67;
const NAL_PICTURE: u8 = 0x68;
/// Level 4.0 covers every size used here.
const LEVEL: u8 = 40;

/// Frame size in macroblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u32,
    pub(super) rows: u32,
}

impl Size {
    pub(super) const fn macroblocks(self) -> u32 {
        self.columns * self.rows
    }
}

/// The sequence parameter set.
pub(super) fn sequence_parameters(size: Size) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.put(u32::from(NAL_SEQUENCE), 8);
    bits.put(66, 8); // baseline
    bits.put(0xc0, 8); // constrained
    bits.put(u32::from(LEVEL), 8);
    bits.exp_golomb(0); // this set's number
    bits.exp_golomb(0); // frame numbers have 4 bits
    bits.exp_golomb(2); // output order is decoding order
    bits.exp_golomb(1); // one reference frame
    bits.put(0, 1); // no gaps in frame numbers
    bits.exp_golomb(size.columns - 1);
    bits.exp_golomb(size.rows - 1);
    bits.put(1, 1); // frames only
    bits.put(1, 1); // direct 8x8 inference
    bits.put(0, 1); // no cropping
    bits.put(0, 1); // no usability information
    bits.trailing();
    escape(&bits.into_bytes())
}

/// The picture parameter set.
pub(super) fn picture_parameters() -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.put(u32::from(NAL_PICTURE), 8);
    bits.exp_golomb(0); // this set's number
    bits.exp_golomb(0); // the sequence it belongs to
    bits.put(0, 1); // CAVLC
    bits.put(0, 1); // no picture order in slices
    bits.exp_golomb(0); // one slice group
    bits.exp_golomb(0); // one reference in list 0
    bits.exp_golomb(0); // one in list 1
    bits.put(0, 3); // no weighted prediction
    bits.exp_golomb(0); // quantiser 26
    bits.exp_golomb(0); // the same for switching slices
    bits.exp_golomb(0); // the same for chroma
    bits.put(1, 1); // slices say whether they are deblocked
    bits.put(0, 1); // intra prediction not constrained
    bits.put(0, 1); // no redundant pictures
    bits.trailing();
    escape(&bits.into_bytes())
}

/// One second of video (a group of pictures), computed on demand.
#[derive(Clone, Debug)]
pub(super) struct Group {
    size: Size,
    picture: Picture,
    /// The start of the key frame up to its first sample, for even and odd groups (consecutive key frames must have
    /// different ids); both have the same length.
    starts: [Vec<u8>; 2],
    /// Everything after the key frame.
    skipped: Vec<u8>,
    /// The length of each frame in the file, the key frame first.
    pub(super) frames: Vec<u32>,
}

impl Group {
    pub(super) fn new(picture: Picture, size: Size) -> Self {
        let starts = [Self::key_frame_start(size, 1), Self::key_frame_start(size, 2)];
        let key_frame = starts[0].len() + SAMPLES + (size.macroblocks() as usize - 1) * MACROBLOCK + 1;
        let mut frames = vec![u32::try_from(key_frame).unwrap_or(u32::MAX)];
        let mut skipped = Vec::new();
        for number in 1..GROUP {
            let unit = Self::skipped_frame(size, number);
            let length = u32::try_from(unit.len()).unwrap_or(u32::MAX);
            skipped.extend(length.to_be_bytes());
            skipped.extend(unit);
            frames.push(length + 4);
        }
        Self { size, picture, starts, skipped, frames }
    }

    fn key_frame_start(size: Size, number: u32) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.put(u32::from(NAL_IDR), 8);
        bits.exp_golomb(0); // first macroblock
        bits.exp_golomb(7); // all slices of the picture are I
        bits.exp_golomb(0); // picture parameter set
        bits.put(0, 4); // frame number
        bits.exp_golomb(number); // number of the key frame
        bits.put(0, 2); // reference marking: short-term, prior pictures stay
        bits.exp_golomb(0); // quantiser unchanged
        bits.exp_golomb(1); // no deblocking
        bits.exp_golomb(25); // first macroblock: I_PCM
        bits.align();
        let unit = escape(&bits.into_bytes());
        let length = unit.len() + SAMPLES + (size.macroblocks() as usize - 1) * MACROBLOCK + 1;
        let mut start = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        start.extend(unit);
        start
    }

    fn skipped_frame(size: Size, number: u32) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.put(u32::from(NAL_SLICE), 8);
        bits.exp_golomb(0); // first macroblock
        bits.exp_golomb(5); // all slices of the picture are P
        bits.exp_golomb(0); // picture parameter set
        bits.put(number % 16, 4); // frame number
        bits.put(0, 3); // default references, kept by the sliding window
        bits.exp_golomb(0); // quantiser unchanged
        bits.exp_golomb(1); // no deblocking
        bits.exp_golomb(size.macroblocks()); // skip them all
        bits.trailing();
        escape(&bits.into_bytes())
    }

    /// The length of a group.
    pub(super) fn length(&self) -> u64 {
        u64::from(self.frames[0]) + self.skipped.len() as u64
    }

    /// Copies from `offset` in group `number` of `total` into `buffer` and returns the number of bytes.
    pub(super) fn read_at(&self, number: u64, total: u64, offset: u64, buffer: &mut [u8]) -> usize {
        let start = &self.starts[usize::from(number % 2 == 1)];
        let key_frame = self.frames[0] as usize;
        let mut position = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut written = 0;
        while written < buffer.len() {
            let target = &mut buffer[written..];
            let copied = if position < start.len() {
                copy(&start[position..], target)
            } else if position + 1 < key_frame {
                // The first macroblock's header is part of the start; treat it as a macroblock like the others.
                let inside = position - start.len() + PCM_HEADER.len();
                let block = self.macroblock(u32::try_from(inside / MACROBLOCK).unwrap_or_default(), number, total);
                copy(&block[inside % MACROBLOCK..], target)
            } else if position < key_frame {
                copy(&[0x80], target)
            } else {
                match self.skipped.get(position - key_frame..) {
                    Some(rest) if !rest.is_empty() => copy(rest, target),
                    _ => break,
                }
            };
            position += copied;
            written += copied;
        }
        written
    }

    fn macroblock(&self, index: u32, number: u64, total: u64) -> [u8; MACROBLOCK] {
        let Size { columns, rows } = self.size;
        let colour = self.picture.cell(index % columns, index / columns, columns, rows, number, total);
        let mut block = [colour.luma; MACROBLOCK];
        block[..2].copy_from_slice(&PCM_HEADER);
        block[2 + 256..2 + 256 + 64].fill(colour.blue);
        block[2 + 256 + 64..].fill(colour.red);
        block
    }
}

fn copy(source: &[u8], target: &mut [u8]) -> usize {
    let length = source.len().min(target.len());
    target[..length].copy_from_slice(&source[..length]);
    length
}

/// Emulation prevention: no start code may appear inside a unit. Samples need no escaping, because none is zero.
fn escape(unit: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros == 2 && *byte <= 3 {
            escaped.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        escaped.push(*byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_match_the_standard() {
        let mut bits = BitWriter::default();
        for value in [0, 1, 2, 3, 25] {
            bits.exp_golomb(value);
        }
        // 1 010 011 00100 000011010
        assert_eq!(bits.into_bytes(), [0b1010_0110, 0b0100_0000, 0b1101_0000]);
    }

    #[test]
    fn start_codes_are_escaped() {
        assert_eq!(escape(&[1, 0, 0, 1, 0, 0, 0, 0, 4]), [1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 4]);
    }

    #[test]
    fn a_group_reads_the_same_in_pieces_of_any_size() {
        let group = Group::new(Picture::new("pieces"), Size { columns: 2, rows: 2 });
        let mut whole = vec![0; usize::try_from(group.length()).expect("small")];
        assert_eq!(group.read_at(3, 5, 0, &mut whole), whole.len());
        for step in [1, 7, 386, 1000] {
            let mut pieces = Vec::new();
            let mut buffer = vec![0; step];
            loop {
                let length = group.read_at(3, 5, pieces.len() as u64, &mut buffer);
                if length == 0 {
                    break;
                }
                pieces.extend_from_slice(&buffer[..length]);
            }
            assert!(pieces == whole, "in steps of {step}");
        }
    }
}
