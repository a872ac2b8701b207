//! The URL of a folder, and the URLs of the files in it.

use crate::{Error, Result, weights::text::shown};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use ureq::http::Uri;

/// What a file's name must not bring into a URL as it is; a percent sign is a part of the name here.
const NOT_IN_A_NAME: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The URL of a folder.
///
/// It may hold secrets, a password before the host or a signature in the query: they are sent, and
/// never shown.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::weights) struct Address {
    scheme: String,
    /// `user:password@host:port`, all but the host optional.
    authority: String,
    /// Begins and ends with a slash; percent-encoded.
    folder: String,
    /// Empty, or a question mark and what follows: it goes with every file.
    query: String,
}

impl Address {
    /// Takes a URL apart into its folder and the name after the last slash, which may be empty.
    ///
    /// # Errors
    /// [`Error::Read`] if it is no URL of HTTP or HTTPS.
    pub fn parse(url: &str) -> Result<(Self, String)> {
        // The whole text must not be repeated: what cannot be parsed cannot be stripped of its secrets either.
        let fail = |cause: String| Error::Read { file: "the URL".to_owned(), cause };
        let uri: Uri = url.parse().map_err(|error| fail(format!("it is malformed ({error})")))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let (true, Some(authority)) = (scheme == "http" || scheme == "https", authority) else {
            return Err(fail("it must begin with http:// or https:// and a host".to_owned()));
        };
        let (folder, name) = uri.path().rsplit_once('/').unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8().map_err(|_| fail("the file's name in it is not UTF-8".to_owned()))?;
        let address = Self {
            scheme,
            authority: authority.as_str().to_owned(),
            folder: format!("{folder}/"),
            query: uri.query().map(|query| format!("?{query}")).unwrap_or_default(),
        };
        Ok((address, name.into_owned()))
    }

    /// The folder `name` in this one; this one if the name is empty.
    pub fn join(mut self, name: &str) -> Self {
        if !name.is_empty() {
            self.folder.extend(utf8_percent_encode(name, NOT_IN_A_NAME));
            self.folder.push('/');
        }
        self
    }

    /// The URL for messages, without user, password and query, and without a slash at its end.
    pub fn shown(&self) -> String {
        let host = self.authority.rsplit('@').next().unwrap_or_default();
        format!("{}://{host}{}", self.scheme, self.folder.trim_end_matches('/'))
    }

    /// How messages name `file`.
    pub fn shown_file(&self, file: &str) -> String {
        format!("{}/{}", self.shown(), shown(file))
    }

    /// The URL of `file` as it is asked for.
    ///
    /// # Errors
    /// [`Error::Read`] if the name leads out of the folder.
    pub fn of_file(&self, file: &str) -> Result<Uri> {
        let fail = |cause: String| Error::Read { file: self.shown_file(file), cause };
        if file.is_empty() || file == "." || file == ".." || file.contains(['/', '\\']) {
            return Err(fail("the name leads out of the checkpoint's folder".to_owned()));
        }
        let name = utf8_percent_encode(file, NOT_IN_A_NAME);
        let url = format!("{}://{}{}{name}{}", self.scheme, self.authority, self.folder, self.query);
        url.parse().map_err(|error| fail(format!("it makes no URL ({error})")))
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn a_url_is_a_folder_and_a_name() {
        let (folder, name) = Address::parse("HTTPS://me:secret@host:81/a%20b/my%20model.gguf?key=secret#part").unwrap();
        assert_eq!(name, "my model.gguf");
        assert_eq!(folder.shown(), "https://host:81/a%20b");
        assert_eq!(folder.of_file(&name).unwrap().to_string(), "https://me:secret@host:81/a%20b/my%20model.gguf?key=secret");
        assert_eq!(folder.of_file("100%?#ü").unwrap().path(), "/a%20b/100%25%3F%23%C3%BC");
        let message = folder.of_file("../x").unwrap_err().to_string();
        assert!(message.contains("leads out") && !message.contains("secret"), "{message}");

        let (folder, name) = Address::parse("http://host").unwrap();
        assert_eq!((folder.shown().as_str(), name.as_str()), ("http://host", ""));
        assert_eq!(folder.of_file("config.json").unwrap().to_string(), "http://host/config.json");
        let (folder, name) = Address::parse("http://host/a/b").unwrap();
        assert_eq!(folder.join(&name).of_file("c").unwrap().to_string(), "http://host/a/b/c");
    }

    #[test]
    fn what_is_no_url_of_the_web_is_refused_without_repeating_it() {
        for url in
            ["ftp://me:secret@host/x", "http://", "host/x?secret", "http://me:secret@ho st/", "http:///x", "http://h/%FF?secret"]
        {
            let message = Address::parse(url).err().unwrap().to_string();
            assert!(message.contains("the URL") && !message.contains("secret"), "{url}: {message}");
        }
    }
}
