//! Who we are to a server: from the environment of this process, and from files of the operating-system user
//! that it runs as. Never from a URL, which everybody can read.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use ini::{Ini, ParseOption};
use netrc::Netrc;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use url::Url;

use super::network::{CONNECT_TIMEOUT, READ_TIMEOUT};
use crate::Error;

/// Time-outs that suit files of any size: a server may be silent for so long, while a whole request takes
/// what it takes. One object at a time is removed, which all servers can do.
fn defaults() -> [(&'static str, String); 4] {
    let seconds = |time: Duration| format!("{} seconds", time.as_secs());
    [
        ("connect_timeout", seconds(CONNECT_TIMEOUT)),
        ("read_timeout", seconds(READ_TIMEOUT)),
        ("timeout", "1 day".into()),
        ("aws_disable_bulk_delete", "true".into()),
    ]
}

/// The variables that count for a scheme.
const VARIABLES: [(&str, &str); 3] = [("s3", "AWS_"), ("gs", "GOOGLE_"), ("az", "AZURE_")];

/// What object_store is to know of a server of this scheme, later options before earlier ones.
pub(super) fn options(scheme: &str) -> Result<Vec<(String, String)>, Error> {
    let mut options = Vec::from(defaults().map(|(key, value)| (key.to_owned(), value)));
    let prefix = VARIABLES.iter().find(|(name, _)| *name == scheme).map_or("", |(_, prefix)| prefix);
    let variables =
        env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let variables = variables.filter(|(key, _)| key.starts_with(prefix)).collect::<Vec<_>>();
    if scheme == "s3" {
        options.extend(profile(!variables.iter().any(|(key, _)| key == "AWS_ACCESS_KEY_ID"))?);
    }
    options.extend(variables);
    // An endpoint says itself whether it uses TLS.
    let endpoint = options.iter().rev().find(|(key, _)| key.to_lowercase().contains("endpoint_url"));
    if endpoint.is_some_and(|(_, url)| url.starts_with("http://")) {
        options.push(("allow_http".into(), "true".into()));
    }
    Ok(options)
}

/// What the files of AWS's own tools say: a region, an endpoint, and, unless the environment has them, keys.
fn profile(with_keys: bool) -> Result<Vec<(String, String)>, Error> {
    let chosen = env::var("AWS_PROFILE").ok();
    let name = chosen.clone().unwrap_or_else(|| "default".into());
    let config = ini("AWS_CONFIG_FILE", ".aws/config")?;
    let credentials = ini("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?;
    let mut options = Vec::new();
    for (file, section, keys) in [
        (&config, if name == "default" { name.clone() } else { format!("profile {name}") }, &KEYS[..]),
        (&credentials, name, &KEYS[2..]),
    ] {
        let section = file.section(Some(section)).into_iter().flat_map(|section| section.iter());
        let known = section.filter(|(key, _)| keys.contains(key) && (with_keys || KEYS[..2].contains(key)));
        options.extend(known.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    match chosen {
        Some(profile) if with_keys && !options.iter().any(|(key, _)| key == "aws_access_key_id") => {
            Err(Error::Profile { profile })
        }
        _ => Ok(options),
    }
}

/// The keys of a profile, those that are no secret first.
const KEYS: [&str; 5] =
    ["region", "endpoint_url", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

fn ini(variable: &str, usual: &str) -> Result<Ini, Error> {
    let Some((path, text)) = read(env::var_os(variable), usual)? else { return Ok(Ini::new()) };
    let plain = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    Ini::load_from_str_opt(&text, plain).map_err(|error| not_valid(&path, error.line))
}

/// The headers that log in to a WebDAV server, if `.netrc` has an entry for its name.
pub(super) fn headers(url: &Url) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let Some((path, text)) = read(env::var_os("NETRC"), ".netrc")? else { return Ok(headers) };
    let netrc = text.parse::<Netrc>().map_err(|_| not_valid(&path, 0))?;
    let entry = url.host_str().and_then(|host| netrc.hosts.get(host).or(netrc.hosts.get("default")));
    if let Some(entry) = entry {
        let basic = STANDARD.encode(format!("{}:{}", entry.login, entry.password));
        let mut header = HeaderValue::from_str(&format!("Basic {basic}")).map_err(|_| not_valid(&path, 0))?;
        header.set_sensitive(true);
        headers.insert(AUTHORIZATION, header);
    }
    Ok(headers)
}

/// Reads a file that a variable names, or that is in the home directory; one that is not there says nothing.
fn read(named: Option<OsString>, usual: &str) -> Result<Option<(PathBuf, String)>, Error> {
    let path = named.map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(usual)));
    let Some(path) = path else { return Ok(None) };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path.to_string_lossy(), error)),
    }
}

/// Does not repeat what is in the file.
fn not_valid(path: &Path, line: usize) -> Error {
    let place = if line > 0 { format!(" in line {line}") } else { String::new() };
    let reason = io::Error::new(io::ErrorKind::InvalidData, format!("it is not valid{place}"));
    Error::io("read", &path.to_string_lossy(), reason)
}
