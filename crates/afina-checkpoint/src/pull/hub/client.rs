//! Requests to the hub: redirects followed by hand, the token kept to the hub, refusals told apart.
//!
//! hf-hub gives the addresses, and in `cache.rs` the layout of the cache. Its own download (0.5.0) is not used: it sends the
//! token on to the storage that the hub redirects to, appends to a half file whatever the server answers, and does not look
//! at what came.

use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::error::HubError;
use super::settings::HubSettings;

/// How often a request that failed for a reason that may pass is tried.
pub(super) const TRIES: u32 = 5;
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
}

/// One repo at one revision of a hub.
pub(super) struct Client<'a> {
    pub settings: &'a HubSettings,
    pub repo: &'a str,
    /// As it was asked for; files are taken from a commit.
    pub revision: &'a str,
    api: Api,
    agent: Agent,
    bearer: Option<String>,
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a HubSettings, repo: &'a str, revision: &'a str) -> Result<Client<'a>, HubError> {
        let endpoint: Option<Uri> = settings.base().parse().ok();
        let host =
            endpoint.as_ref().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))).and_then(Uri::host);
        let host = host.ok_or_else(|| HubError::Endpoint { endpoint: settings.endpoint.clone() })?;
        let bearer = match &settings.token {
            Some(token) => Some(token.bearer().ok_or(HubError::TokenSpelling)?),
            None => None,
        };
        // Without a token: it would go along with every redirect on the same host, whatever the port.
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.base().to_owned())
            .with_token(None)
            .with_progress(false)
            .build()
            .expect("hf-hub opens nothing before the first request");
        let mut config = Agent::config_builder();
        // A proxy that the system names is not for this machine itself.
        if matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
            config = config.proxy(None);
        }
        let agent = config
            .user_agent(concat!("afina/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .build()
            .new_agent();
        Ok(Client { settings, repo, revision, api, agent, bearer })
    }

    /// The repo's description: its commit and its files, with sizes and hashes.
    pub(super) fn info(&self) -> Result<Response<Body>, HubError> {
        let repo = Repo::with_revision(self.repo.to_owned(), RepoType::Model, self.revision.to_owned());
        let request = self.api.repo(repo).info_request();
        let url = request.uri_ref().map(Uri::to_string).expect("hf-hub has made it from an endpoint and names");
        self.patiently(|| self.send(Method::Get, &format!("{url}?blobs=true"), None))
    }

    /// The address of a file at a commit.
    pub(super) fn file_url(&self, commit: &str, name: &str) -> String {
        let repo = Repo::with_revision(self.repo.to_owned(), RepoType::Model, commit.to_owned());
        self.api.repo(repo).url(name)
    }

    /// Sends a request, and follows redirects. A status that is no success is an error.
    ///
    /// A GET begins at byte `from`, if the server can; a HEAD ends at the last answer of the hub's own.
    pub(super) fn send(&self, method: Method, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.once(method, &url, from)?;
            let status = response.status();
            if !status.is_redirection() {
                return if status.is_success() { Ok(response) } else { Err(self.refusal(&url, response)) };
            }
            let location = header(response.headers(), "location").and_then(|location| join(&url, location));
            let next = location.ok_or(HubError::Answer { url: url.clone(), expected: "an address to go on to" })?;
            if method == Method::Head && !same_origin(&url, &next) {
                return Ok(response);
            }
            url = next;
        }
        Err(HubError::Answer { url, expected: "an end of redirects" })
    }

    fn once(&self, method: Method, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        // Bytes as they are stored: sizes, ranges and hashes are of those.
        request = request.header("Accept-Encoding", "identity");
        if let Some(bearer) = self.bearer.as_ref().filter(|_| same_origin(self.settings.base(), url)) {
            request = request.header("Authorization", bearer);
        }
        if let Some(from) = from {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let repo = self.repo.to_owned();
        request.call().map_err(|source| HubError::Connect { url: shown(url), repo, source: Box::new(source) })
    }

    /// Tries again, with longer and longer waits, what the hub could not do for a moment.
    pub(super) fn patiently<T>(&self, mut ask: impl FnMut() -> Result<T, HubError>) -> Result<T, HubError> {
        for tried in 1.. {
            match ask() {
                Err(HubError::Status { status: 429 | 500.., .. }) if tried < TRIES => self.wait(tried),
                result => return result,
            }
        }
        unreachable!("the last try always returns")
    }

    /// Waits before the try after `tried` of them.
    pub(super) fn wait(&self, tried: u32) {
        let wait = self.settings.retry_wait.saturating_mul(1 << (tried - 1).min(10));
        std::thread::sleep(wait.min(LONGEST_WAIT));
    }

    /// Which refusal an answer is.
    ///
    /// Source: huggingface_hub `utils/_http.py`, `hf_raise_for_status`: `X-Error-Code` where there is one; the hub
    /// answers 401 for a repo that is not there, so as not to tell which private ones are.
    fn refusal(&self, url: &str, mut response: Response<Body>) -> HubError {
        let status = response.status().as_u16();
        let code = header(response.headers(), "x-error-code").unwrap_or_default().to_owned();
        let message = header(response.headers(), "x-error-message").map(str::to_owned);
        let message = message.unwrap_or_else(|| {
            let body = response.body_mut().read_to_string().unwrap_or_default();
            let json: Option<serde_json::Value> = serde_json::from_str(&body).ok();
            json.and_then(|json| Some(json["error"].as_str()?.to_owned())).unwrap_or_default()
        });
        let message: String = match &self.settings.token {
            Some(token) => token.blacken(&message),
            None => message,
        };
        let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();

        let (repo, endpoint) = (self.repo.to_owned(), self.settings.base().to_owned());
        let with_token = self.bearer.is_some();
        // The storage behind a redirect has its own reasons.
        if !same_origin(self.settings.base(), url) {
            return HubError::Status { url: shown(url), status, message };
        }
        match (status, code.as_str()) {
            (_, "GatedRepo") => HubError::Gated { page: format!("{endpoint}/{repo}"), repo, with_token, message },
            (_, "RevisionNotFound") => HubError::NoRevision { repo, revision: self.revision.to_owned() },
            (_, "RepoNotFound") => HubError::NoRepo { repo, endpoint, with_token },
            (401, _) if message.contains("nvalid credentials") => HubError::Token { endpoint, message },
            (401, _) => HubError::NoRepo { repo, endpoint, with_token },
            (404, "") => HubError::NoRepo { repo, endpoint, with_token },
            (403, _) => HubError::Forbidden { repo, endpoint, with_token, message },
            _ => HubError::Status { url: shown(url), status, message },
        }
    }
}

/// A header's text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// An address without its query: that of a storage carries a signature.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or(url).to_owned()
}

/// Whether two addresses have the same scheme, host and port.
fn same_origin(a: &str, b: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_owned();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    origin(a).is_some_and(|a| Some(a) == origin(b))
}

/// Where a `Location` of an answer from `url` leads.
fn join(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let next = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        let path = rest.split(['?', '#']).next()?;
        format!("{scheme}://{}/{location}", path.rsplit_once('/').map_or(host, |(folder, _)| folder))
    };
    next.parse::<Uri>().is_ok().then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_to_where_they_came_from() {
        let url = "https://hub.co/a/b?x=1";
        for (location, expected) in [
            ("https://cdn.co/c?sig=2", "https://cdn.co/c?sig=2"),
            ("//cdn.co/c", "https://cdn.co/c"),
            ("/c/d", "https://hub.co/c/d"),
            ("c", "https://hub.co/a/c"),
        ] {
            assert_eq!(join(url, location).as_deref(), Some(expected));
        }
        assert_eq!(join(url, "https://a b/"), None);
        assert_eq!(join("https://hub.co", "c").as_deref(), Some("https://hub.co/c"));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same_origin("https://hub.co", "https://HUB.co:443/a?b"));
        for other in ["http://hub.co", "https://hub.co:8443", "https://cdn.hub.co", "https://hub.co.evil.net", "hub.co"]
        {
            assert!(!same_origin("https://hub.co", other), "{other}");
        }
        // What stands before an `@` is no host.
        assert!(!same_origin("https://hub.co", "https://hub.co@evil.net/"));
    }
}
