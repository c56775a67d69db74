//! In which pieces a file is copied, within the limits of S3.

/// 1 MiB.
pub const MEBIBYTE: u64 = 1 << 20;

/// Smallest piece, and the range of the first request. S3 takes no part under 5 MiB but the last; 8 MiB is what the AWS
/// command line uses, and it lets seven pieces share the copier's memory.
pub const MIN_PIECE: u64 = 8 * MEBIBYTE;

/// Up to this length a file is written with one `PutObject`: twice a piece. A multipart upload would take two further round
/// trips and four requests instead of one, for a file that is there within a second.
pub const MAX_SINGLE_PUT: u64 = 2 * MIN_PIECE;

/// Highest number of pieces of a file whose length is known. S3 takes 10,000 parts; finished ones are kept in the record of the task at
/// 36 bytes each, and an item of the table holds 400 KB.
pub const MAX_PIECES: u64 = 4_000;

/// Largest piece that is held in memory as a whole. A file above [`MAX_PIECES`] times this (62.5 GiB) has larger pieces,
/// which are streamed instead.
pub const MAX_HELD_PIECE: u64 = 16 * MEBIBYTE;

/// Largest object: 5 TiB, what any S3 takes.
pub const MAX_OBJECT_BYTES: u64 = 5 << 40;

/// Highest number of parts of an upload, by S3.
pub const MAX_PARTS: u64 = 10_000;

/// Parts of a stream that have the size of a [`MIN_PIECE`]; later ones are of [`MAX_HELD_PIECE`]. Chosen so that a stream
/// below 16 GiB is cut like any other file.
const SMALL_PARTS_OF_A_STREAM: u64 = 2_000;

/// Longest stream that can be stored when it cannot be read in pieces: 140 GiB. It has to come within one invocation, and in
/// 15 minutes that would take 160 MiB a second, twice what a function's network gives.
pub const MAX_STREAM_BYTES: u64 =
    SMALL_PARTS_OF_A_STREAM * MIN_PIECE + (MAX_PARTS - SMALL_PARTS_OF_A_STREAM) * MAX_HELD_PIECE;

/// Size of part `number` (from 1) of a file that comes as one stream.
pub fn stream_part_size(number: u64) -> u64 {
    if number <= SMALL_PARTS_OF_A_STREAM { MIN_PIECE } else { MAX_HELD_PIECE }
}

/// Size of the pieces of a file of this length: the smallest that stays within [`MAX_PIECES`], in whole MiB.
pub fn piece_size(length: u64) -> u64 {
    length.div_ceil(MAX_PIECES).next_multiple_of(MEBIBYTE).max(MIN_PIECE)
}

/// A range of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub start: u64,
    /// How long it is; never 0.
    pub length: u64,
}

impl Piece {
    /// The piece with this number (from 0) of a file. None past its end.
    pub fn of(length: u64, piece_size: u64, number: u64) -> Option<Self> {
        let start = number.checked_mul(piece_size).filter(|start| *start < length)?;
        Some(Self { start, length: piece_size.min(length - start) })
    }

    /// The first byte behind it.
    pub fn end(self) -> u64 {
        self.start + self.length
    }

    /// What is left of it after this many bytes.
    #[must_use]
    pub fn after(self, received: u64) -> Self {
        let received = received.min(self.length);
        Self { start: self.start + received, length: self.length - received }
    }

    /// As a `Range` header.
    pub fn range_header(self) -> String {
        format!("bytes={}-{}", self.start, self.end().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIBIBYTE: u64 = 1 << 30;

    #[test]
    fn pieces_cover_a_file_of_any_length_within_the_limits_of_s3() {
        for (length, size, pieces) in [
            (1, 8, 1),
            (MIN_PIECE, 8, 1),
            (MIN_PIECE + 1, 8, 2),
            (20 * GIBIBYTE, 8, 2560),
            (MAX_PIECES * MIN_PIECE, 8, 4000),
            (MAX_PIECES * MIN_PIECE + 1, 9, 3556),
            (MAX_PIECES * MAX_HELD_PIECE, 16, 4000),
            (MAX_PIECES * MAX_HELD_PIECE + 1, 17, 3765),
            (MAX_OBJECT_BYTES, 1311, 4000),
        ] {
            let in_pieces = piece_size(length);
            assert_eq!(in_pieces, size * MEBIBYTE, "{length}");
            assert_eq!(length.div_ceil(in_pieces), pieces, "{length}");
            assert!(pieces <= MAX_PIECES && in_pieces <= 5 * GIBIBYTE);
            let mut position = 0;
            for piece in (0..).map_while(|number| Piece::of(length, in_pieces, number)) {
                assert_eq!(piece.start, position);
                assert!(piece.length > 0);
                position = piece.end();
            }
            assert_eq!(position, length);
        }
        assert_eq!(Piece::of(0, MIN_PIECE, 0), None);
        assert_eq!(Piece::of(u64::MAX, MIN_PIECE, u64::MAX), None);
    }

    #[test]
    fn streams_fit_into_the_parts_of_an_upload() {
        assert_eq!((1..=MAX_PARTS).map(stream_part_size).sum::<u64>(), MAX_STREAM_BYTES);
        const { assert!(MAX_STREAM_BYTES > 140 * GIBIBYTE) };
    }

    #[test]
    fn ranges_are_inclusive() {
        let piece = Piece { start: 100, length: 50 };
        assert_eq!(piece.range_header(), "bytes=100-149");
        assert_eq!(piece.after(20).range_header(), "bytes=120-149");
        assert_eq!(piece.after(70).length, 0);
    }
}
