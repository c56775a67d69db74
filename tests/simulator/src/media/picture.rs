//! The picture in a task's video and cover: a symmetric pattern in two colours chosen by the seed, and a white progress bar
//! at the bottom.

use super::digest;

/// A colour in the studio range of BT.601, so that no sample is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour {
    pub(super) luma: u8,
    pub(super) blue: u8,
    pub(super) red: u8,
}

const WHITE: Colour = Colour { luma: 235, blue: 128, red: 128 };

/// Width and height of a picture in blocks of 8 by 8 pixels.
const COLUMNS: u32 = 16;
const ROWS: u32 = 9;
const BLOCK: u32 = 8;

/// The picture of one seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    pattern: u32,
    background: Colour,
    foreground: Colour,
}

impl Picture {
    pub(super) fn new(seed: &str) -> Self {
        let hash = digest(seed);
        let byte = |shift: u32| u8::try_from((hash >> shift) & 0xff).unwrap_or_default();
        let chroma = |shift: u32| 40 + byte(shift) % 176;
        Self {
            pattern: u32::try_from(hash & 0xffff_ffff).unwrap_or_default(),
            background: Colour { luma: 30 + byte(32) % 70, blue: chroma(40), red: chroma(48) },
            foreground: Colour { luma: 140 + byte(56) % 80, blue: 255 - chroma(40), red: 255 - chroma(48) },
        }
    }

    /// The colour of a cell in a grid, with the bar at `progress` of `total`.
    pub(super) fn cell(&self, column: u32, row: u32, columns: u32, rows: u32, progress: u64, total: u64) -> Colour {
        if row + 1 == rows && u64::from(column) * total <= progress * u64::from(columns) {
            return WHITE;
        }
        let (across, down) = (column * 8 / columns, row * 8 / rows);
        let bit = down * 4 + across.min(7 - across);
        if self.pattern >> bit & 1 == 1 { self.foreground } else { self.background }
    }

    fn still(&self, column: u32, row: u32) -> Colour {
        self.cell(column, row, COLUMNS, ROWS, 1, 1)
    }

    /// An indexed PNG with two bits per pixel, in stored (uncompressed) deflate blocks.
    pub(super) fn png(&self) -> Vec<u8> {
        let (width, height) = (COLUMNS * BLOCK, ROWS * BLOCK);
        let palette = [self.background, self.foreground, WHITE];
        let mut rows = Vec::new();
        for row in 0..ROWS {
            let mut line = vec![0_u8];
            for column in 0..COLUMNS {
                let colour = self.still(column, row);
                let index = palette.iter().position(|entry| *entry == colour).unwrap_or_default();
                // Eight pixels of one colour: two bytes of four equal bit pairs.
                line.extend([[0x00, 0x55, 0xaa][index]; 2]);
            }
            for _ in 0..BLOCK {
                rows.extend_from_slice(&line);
            }
        }

        let mut header = Vec::new();
        header.extend(width.to_be_bytes());
        header.extend(height.to_be_bytes());
        header.extend([2, 3, 0, 0, 0]);
        let colours: Vec<u8> = palette.iter().flat_map(|colour| rgb(*colour)).collect();

        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        png_chunk(&mut file, *b"IHDR", &header);
        png_chunk(&mut file, *b"PLTE", &colours);
        png_chunk(&mut file, *b"IDAT", &zlib_stored(&rows));
        png_chunk(&mut file, *b"IEND", &[]);
        file
    }

    /// A baseline JPEG of flat blocks, which have only a DC coefficient.
    pub(super) fn jpeg(&self) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        jpeg_segment(&mut file, 0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
        // One quantisation table: 8 for the DC coefficient, so that the stored value is `sample - 128`.
        let mut quantisation = vec![0_u8];
        quantisation.extend([8; 64]);
        jpeg_segment(&mut file, 0xdb, &quantisation);
        let size = |blocks: u32| u16::try_from(blocks * BLOCK).unwrap_or_default().to_be_bytes();
        let mut frame = vec![8];
        frame.extend(size(ROWS));
        frame.extend(size(COLUMNS));
        frame.extend([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
        jpeg_segment(&mut file, 0xc0, &frame);
        // The DC table of annex K.3, and an AC table with a single code: the bit `0` for the end of the block.
        jpeg_segment(
            &mut file,
            0xc4,
            &[0x00, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        );
        jpeg_segment(&mut file, 0xc4, &[0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00]);
        jpeg_segment(&mut file, 0xda, &[3, 1, 0x00, 2, 0x00, 3, 0x00, 0, 63, 0]);

        let mut bits = super::h264::BitWriter::default();
        let mut previous = [0_i32; 3];
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                let colour = self.still(column, row);
                for (component, sample) in [colour.luma, colour.blue, colour.red].into_iter().enumerate() {
                    let value = i32::from(sample) - 128;
                    jpeg_dc(&mut bits, value - previous[component]);
                    bits.put(0, 1);
                    previous[component] = value;
                }
            }
        }
        bits.fill_with_ones();
        for byte in bits.into_bytes() {
            file.push(byte);
            if byte == 0xff {
                file.push(0);
            }
        }
        file.extend([0xff, 0xd9]);
        file
    }
}

/// The codes of the DC table for categories 0 to 8: (code, length).
const DC_CODES: [(u32, u32); 9] =
    [(0, 2), (0b010, 3), (0b011, 3), (0b100, 3), (0b101, 3), (0b110, 3), (0b1110, 4), (0b1_1110, 5), (0b11_1110, 6)];

fn jpeg_dc(bits: &mut super::h264::BitWriter, difference: i32) {
    let magnitude = difference.unsigned_abs();
    let category = 32 - magnitude.leading_zeros();
    let (code, length) = DC_CODES[category as usize];
    bits.put(code, length);
    if category > 0 {
        let value = if difference < 0 { (1 << category) - 1 - magnitude } else { magnitude };
        bits.put(value, category);
    }
}

fn jpeg_segment(file: &mut Vec<u8>, marker: u8, body: &[u8]) {
    file.extend([0xff, marker]);
    file.extend(u16::try_from(body.len() + 2).unwrap_or(u16::MAX).to_be_bytes());
    file.extend_from_slice(body);
}

fn rgb(colour: Colour) -> [u8; 3] {
    let luma = (i32::from(colour.luma) - 16) * 298;
    let (blue, red) = (i32::from(colour.blue) - 128, i32::from(colour.red) - 128);
    let clamp = |value: i32| u8::try_from(((value + 128) >> 8).clamp(0, 255)).unwrap_or_default();
    [clamp(luma + 409 * red), clamp(luma - 100 * blue - 208 * red), clamp(luma + 516 * blue)]
}

fn png_chunk(file: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) {
    file.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend_from_slice(body);
    let checksum = crc32(&file[start..]);
    file.extend(checksum.to_be_bytes());
}

/// A zlib stream of stored blocks.
fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    stream.extend(deflate_stored(data));
    stream.extend(adler32(data).to_be_bytes());
    stream
}

/// Deflate without compression, at most 65,535 bytes per block.
pub(crate) fn deflate_stored(data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(data.len() + 16);
    let mut blocks = data.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        stream.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream
}

pub(crate) fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn adler32(data: &[u8]) -> u32 {
    let (low, high) = data.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_match_published_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn pictures_have_valid_signatures_and_differ_by_seed() {
        let first = Picture::new("first");
        assert!(first.png().starts_with(b"\x89PNG\r\n\x1a\n"));
        assert!(first.jpeg().starts_with(&[0xff, 0xd8, 0xff, 0xe0]));
        assert!(first.jpeg().ends_with(&[0xff, 0xd9]));
        assert_ne!(first.png(), Picture::new("second").png());
        assert_ne!(first.jpeg(), Picture::new("second").jpeg());
        assert_eq!(first.png(), Picture::new("first").png());
    }

    #[test]
    fn no_sample_of_a_colour_is_zero() {
        for number in 0..1000 {
            let picture = Picture::new(&format!("seed {number}"));
            for colour in [picture.background, picture.foreground] {
                assert!(colour.luma >= 16 && colour.blue >= 16 && colour.red >= 16, "{colour:?}");
            }
        }
    }
}
