//! What the head of an answer says about the file behind it.

use std::{ops::Range, time::Duration};
use ureq::http::{HeaderMap, HeaderName, header};

/// What tells one content of a file from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Version {
    pub fn of(headers: &HeaderMap) -> Self {
        Self { etag: text(headers, header::ETAG), last_modified: text(headers, header::LAST_MODIFIED) }
    }

    /// Whether the other is certainly another content: mirrors may leave a header out, and disagree about dates.
    pub fn contradicts(&self, other: &Self) -> bool {
        // Proxies turn a strong ETag into a weak one without changing the content.
        let opaque = |etag: &str| etag.trim_start_matches("W/").to_owned();
        match (&self.etag, &other.etag) {
            (Some(own), Some(others)) => opaque(own) != opaque(others),
            _ => self.last_modified.is_some() && other.last_modified.is_some() && self.last_modified != other.last_modified,
        }
    }

    /// The value of `If-Range`, for which only a strong ETag is certain enough.
    pub fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }

    /// The most telling of it.
    pub fn as_text(&self) -> Option<&str> {
        self.etag.as_deref().or(self.last_modified.as_deref())
    }
}

/// `Content-Range`: the bytes that an answer brings, none if it has none of those asked for, and the size of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub bytes: Option<Range<u64>>,
    pub size: Option<u64>,
}

/// The `Content-Range` of an answer, if it has a valid one.
pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let value = text(headers, header::CONTENT_RANGE)?;
    let (bytes, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let bytes = match bytes {
        "*" => None,
        bytes => {
            let (first, last) = bytes.split_once('-')?;
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            Some(first..last.checked_add(1).filter(|&end| end > first)?)
        }
    };
    let size = if size == "*" { None } else { Some(size.trim().parse().ok()?) };
    Some(ContentRange { bytes, size })
}

/// The length of the body, if the server said it in advance.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH)?.parse().ok()
}

/// How the body was compressed, if it was.
pub(super) fn compression(headers: &HeaderMap) -> Option<String> {
    text(headers, header::CONTENT_ENCODING).filter(|encoding| encoding != "identity")
}

/// How long the server asks to wait. A date instead of seconds is not looked at.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, header::RETRY_AFTER)?.parse().ok().map(Duration::from_secs)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range_of(value: &str) -> Option<ContentRange> {
        content_range(&HeaderMap::from_iter([(header::CONTENT_RANGE, value.parse().unwrap())]))
    }

    #[test]
    fn content_ranges_are_read_and_nonsense_is_not() {
        assert_eq!(range_of("bytes 5-9/20"), Some(ContentRange { bytes: Some(5..10), size: Some(20) }));
        assert_eq!(range_of("bytes 0-0/*"), Some(ContentRange { bytes: Some(0..1), size: None }));
        assert_eq!(range_of("bytes */0"), Some(ContentRange { bytes: None, size: Some(0) }));
        for nonsense in ["", "bytes", "bytes 5-9", "bytes 9-5/20", "bytes a-b/c", "items 0-1/2", "bytes 0-18446744073709551615/9"]
        {
            assert_eq!(range_of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn versions_contradict_only_where_they_can_be_compared() {
        let version = |etag: Option<&str>, date: Option<&str>| Version {
            etag: etag.map(str::to_owned),
            last_modified: date.map(str::to_owned),
        };
        let cases = [
            ((Some("\"a\""), Some("Monday")), (Some("\"a\""), Some("Tuesday")), false),
            ((Some("\"a\""), Some("Monday")), (Some("\"b\""), Some("Monday")), true),
            ((Some("\"a\""), None), (Some("W/\"a\""), None), false),
            ((Some("\"a\""), Some("Monday")), (None, Some("Tuesday")), true),
            ((Some("\"a\""), None), (None, Some("Tuesday")), false),
            ((None, None), (None, None), false),
        ];
        for (first, second, contradict) in cases {
            let (first, second) = (version(first.0, first.1), version(second.0, second.1));
            assert_eq!(first.contradicts(&second), contradict, "{first:?} {second:?}");
            assert_eq!(second.contradicts(&first), contradict, "{second:?} {first:?}");
        }
        assert_eq!(version(Some("W/\"a\""), None).strong(), None);
        assert_eq!(version(Some("\"a\""), None).strong(), Some("\"a\""));
    }
}
