//! Whether bytes are media. Links that died or were never right answer with an error page, often under HTTP 200; what is
//! stored is decided by the bytes, not by what the server calls them.

/// Bytes of the beginning that are enough to recognise every format here.
pub const SIGNATURE_LENGTH: usize = 32;

/// A recognised format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Content type the object gets.
    pub content_type: &'static str,
    /// File extension, without the dot.
    pub extension: &'static str,
}

const fn format(content_type: &'static str, extension: &'static str) -> Format {
    Format { content_type, extension }
}

/// The format of a file that begins with these bytes, or none when it is no media known here: HTML, JSON, XML, text.
pub fn recognise(beginning: &[u8]) -> Option<Format> {
    let tag_at = |offset: usize, tag: &[u8]| beginning.get(offset..).is_some_and(|rest| rest.starts_with(tag));
    match beginning {
        // ISO base media: the brand behind `ftyp` tells QuickTime, images and audio from MP4 (ISO/IEC 14496-12, 4.3).
        _ if tag_at(4, b"ftyp") => Some(match beginning.get(8..12) {
            Some(b"qt  ") => format("video/quicktime", "mov"),
            Some(b"M4A " | b"M4B ") => format("audio/mp4", "m4a"),
            Some(b"avif" | b"avis") => format("image/avif", "avif"),
            Some(b"heic" | b"heix" | b"mif1") => format("image/heic", "heic"),
            _ => format("video/mp4", "mp4"),
        }),
        // QuickTime files from before `ftyp` existed begin with one of these atoms.
        _ if tag_at(4, b"moov") || tag_at(4, b"mdat") || tag_at(4, b"wide") => Some(format("video/quicktime", "mov")),
        // EBML; Matroska uses it too, and providers give WebM.
        _ if tag_at(0, &[0x1a, 0x45, 0xdf, 0xa3]) => Some(format("video/webm", "webm")),
        _ if tag_at(0, b"GIF87a") || tag_at(0, b"GIF89a") => Some(format("image/gif", "gif")),
        _ if tag_at(0, &[0xff, 0xd8, 0xff]) => Some(format("image/jpeg", "jpg")),
        _ if tag_at(0, b"\x89PNG\r\n\x1a\n") => Some(format("image/png", "png")),
        _ if tag_at(0, b"RIFF") && tag_at(8, b"WEBP") => Some(format("image/webp", "webp")),
        _ if tag_at(0, b"RIFF") && tag_at(8, b"WAVE") => Some(format("audio/wav", "wav")),
        _ if tag_at(0, b"RIFF") && tag_at(8, b"AVI ") => Some(format("video/x-msvideo", "avi")),
        _ if tag_at(0, b"ID3") => Some(format("audio/mpeg", "mp3")),
        // An MPEG audio frame: 11 bits of sync, then a version that exists (ISO/IEC 11172-3, 2.4.1.3). Layer bits 00 are
        // ADTS, which is AAC. Layer I (11) is left out: nobody makes it, and FF FE is how UTF-16 text begins.
        [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x18 != 0x08 && second & 0x06 != 0x06 => {
            Some(if second & 0x06 == 0 { format("audio/aac", "aac") } else { format("audio/mpeg", "mp3") })
        }
        _ if tag_at(0, b"OggS") => Some(format("audio/ogg", "ogg")),
        _ if tag_at(0, b"fLaC") => Some(format("audio/flac", "flac")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_is_recognised_by_its_first_bytes() {
        for (beginning, extension) in [
            (b"\0\0\0\x20ftypisom\0\0\x02\0".as_slice(), "mp4"),
            (b"\0\0\0\x14ftypqt  ", "mov"),
            (b"\0\0\0\x08wide\0\0", "mov"),
            (b"\x1a\x45\xdf\xa3\x01", "webm"),
            (b"GIF89a", "gif"),
            (b"\xff\xd8\xff\xe0", "jpg"),
            (b"\x89PNG\r\n\x1a\n", "png"),
            (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "webp"),
            (b"RIFF\x01\x02\x03\x04WAVEfmt ", "wav"),
            (b"ID3\x04", "mp3"),
            (b"\xff\xfb\x90\x00", "mp3"),
            (b"\xff\xf1\x50\x80", "aac"),
        ] {
            assert_eq!(recognise(beginning).map(|format| format.extension), Some(extension), "{beginning:?}");
        }
    }

    #[test]
    fn error_pages_are_not_media() {
        for beginning in [
            b"".as_slice(),
            b"<!DOCTYPE html><html>",
            b"\n<?xml version=\"1.0\"?><Error><Code>AccessDenied",
            b"{\"code\":403}",
            b"Not Found",
            b"\xef\xbb\xbf<html>",
            b"\xff\xfe<\0h\0",
            b"\x1f\x8b\x08",
            b"RIFF",
            b"ftyp",
        ] {
            assert_eq!(recognise(beginning), None, "{beginning:?}");
        }
    }
}
