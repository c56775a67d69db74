//! How long a file says it is.

/// Boxes that stand at the top level of an ISO base media file; a walk ends at anything else.
const TOP_LEVEL_BOXES: [&[u8; 4]; 14] = [
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"meta", b"uuid",
    b"pdin", b"emsg",
];

/// The length an MP4, MOV or RIFF file claims for itself, as far as can be seen: the end of the last top-level box whose
/// header can be read. None when it says nothing. A file that is shorter was cut off before it came to us.
///
/// `read` gives what it has of the file from an offset on; 16 bytes are enough, and fewer than 8 end the search.
pub fn claimed_length<'a>(read: impl Fn(u64) -> &'a [u8]) -> Option<u64> {
    let beginning = read(0);
    if beginning.starts_with(b"RIFF") {
        let size = u32::from_le_bytes(beginning.get(4..8)?.try_into().ok()?);
        // Encoders that write to a pipe leave the size at 0 or at its maximum.
        return (!matches!(size, 0 | u32::MAX)).then(|| u64::from(size) + 8);
    }
    let mut end = None;
    // A box is at least 8 bytes, so the walk ends; files have a handful of them.
    loop {
        let header = read(end.unwrap_or(0));
        if header.len() < 8 || !TOP_LEVEL_BOXES.iter().any(|name| header[4..8] == name[..]) {
            return end;
        }
        let size = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            // To the end of the file.
            0 => return end,
            1 => match header.get(8..16) {
                Some(size) => u64::from_be_bytes(size.try_into().ok()?),
                None => return end,
            },
            size => size.into(),
        };
        if size < 8 {
            return end;
        }
        end = Some(end.unwrap_or(0).checked_add(size)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_how_long_they_are() {
        let header = |size: u32, name: &[u8; 4]| [&size.to_be_bytes()[..], name].concat();
        let large = [&header(1, b"mdat")[..], &5_000_000_000_u64.to_be_bytes()].concat();
        let padded = |header: Vec<u8>, length: usize| [header, vec![0; length - 8]].concat();
        let riff = |size: u32| [b"RIFF", &size.to_le_bytes()[..], b"WAVE"].concat();
        for (name, file, claimed) in [
            ("two boxes", [padded(header(24, b"ftyp"), 24), header(1000, b"mdat")].concat(), Some(1024)),
            ("a large box", [padded(header(24, b"ftyp"), 24), large.clone()].concat(), Some(5_000_000_024)),
            ("a box to the end", [padded(header(24, b"ftyp"), 24), header(0, b"mdat")].concat(), Some(24)),
            ("something unknown behind", [padded(header(24, b"ftyp"), 24), header(9, b"????")].concat(), Some(24)),
            ("a box too small for itself", [padded(header(24, b"ftyp"), 24), header(7, b"free")].concat(), Some(24)),
            ("a header cut off", [padded(header(24, b"ftyp"), 24), vec![0, 0, 1]].concat(), Some(24)),
            ("a large box cut off", [padded(header(24, b"ftyp"), 24), large[..12].to_vec()].concat(), Some(24)),
            ("a size beyond all", [header(1, b"mdat"), u64::MAX.to_be_bytes().to_vec()].concat(), Some(u64::MAX)),
            ("a RIFF file", riff(100), Some(108)),
            ("a RIFF file from a pipe", riff(u32::MAX), None),
            ("a RIFF file cut off", b"RIFF\x01".to_vec(), None),
            ("a PNG", b"\x89PNG\r\n\x1a\n".to_vec(), None),
            ("nothing", vec![], None),
        ] {
            let read = |offset: u64| usize::try_from(offset).ok().and_then(|at| file.get(at..)).unwrap_or_default();
            assert_eq!(claimed_length(read), claimed, "{name}");
        }
    }
}
