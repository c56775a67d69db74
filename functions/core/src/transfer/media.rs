//! Whether bytes are media. Links that died or were never right lead to an error page, often under HTTP 200; what is
//! stored is decided by the bytes, not by what the server calls them.
//!
//! Our own code instead of a library: it has to tell HTML, JSON and XML from media more than one medium from another, and names
//! the few types that results have.

use crate::report::Kind;

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

/// What bytes look like that are no media. Their text is not kept: error pages quote signed links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LooksLike {
    /// Nothing at all.
    Nothing,
    /// HTML.
    Html,
    /// XML, as object stores give it.
    Xml,
    /// JSON.
    Json,
    /// Some other text.
    Text,
    /// Compressed bytes.
    Compressed,
    /// A picture where a video should be.
    StillImage,
    /// None of these.
    Unknown,
}

impl LooksLike {
    /// Judges by the first bytes, [`SIGNATURE_LENGTH`] of them.
    pub fn of(beginning: &[u8]) -> Self {
        let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
        let lower = text.get(..text.len().min(9)).unwrap_or_default().to_ascii_lowercase();
        if beginning.is_empty() {
            Self::Nothing
        } else if beginning.starts_with(&[0x1f, 0x8b]) {
            Self::Compressed
        } else if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
            Self::Html
        } else if lower.starts_with(b"<") {
            Self::Xml
        } else if lower.starts_with(b"{") || lower.starts_with(b"[") {
            Self::Json
        } else if text.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            Self::Text
        } else {
            Self::Unknown
        }
    }
}

impl std::fmt::Display for LooksLike {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Nothing => "an empty file",
            Self::Html => "HTML",
            Self::Xml => "XML",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Compressed => "compressed bytes",
            Self::StillImage => "a still image",
            Self::Unknown => "bytes of no known format",
        })
    }
}

/// The format of a file of this kind that begins with these bytes, or what they look like when they are no such file.
pub fn format_for(kind: Kind, beginning: &[u8]) -> Result<Format, LooksLike> {
    let beginning = &beginning[..beginning.len().min(SIGNATURE_LENGTH)];
    match recognise(beginning) {
        // Some stores respond with a picture that says that there is no video. GIF and WebP can be animated.
        Some(Format { content_type, .. })
            if matches!(kind, Kind::Video | Kind::WatermarkedVideo)
                && content_type.starts_with("image/")
                && !matches!(content_type, "image/gif" | "image/webp") =>
        {
            Err(LooksLike::StillImage)
        }
        Some(format) => Ok(format),
        None => Err(LooksLike::of(beginning)),
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
    fn a_still_picture_is_a_cover_and_not_a_video() {
        let png = b"\x89PNG\r\n\x1a\n";
        assert_eq!(format_for(Kind::Cover, png).map(|format| format.extension), Ok("png"));
        assert_eq!(format_for(Kind::Video, png), Err(LooksLike::StillImage));
        assert_eq!(format_for(Kind::Video, b"GIF89a").map(|format| format.extension), Ok("gif"));
        assert_eq!(format_for(Kind::Video, b"<html>"), Err(LooksLike::Html));
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
