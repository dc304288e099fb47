//! Image parts: where one may stand, how it is written, and the image itself. URLs are looked at as text, never opened.

mod counts;
mod data_uris;
mod parts;
mod pixels;
mod urls;

use super::{Group, rules};
use crate::{
    findings::{Findings, Place},
    json::{Kind, Value},
    read::ReadOptions,
    view::Message,
};
pub(crate) use counts::check_example;

/// What the file needs to know of one image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    /// Of its part.
    pub(crate) place: Place,
    /// The same for the same bytes; none for a URL, and for what is not base64.
    pub(crate) hash: Option<u64>,
}

/// The rules of a message's images. Adds them to those of its record.
pub(crate) fn check_images(message: &Message, images: &mut Vec<Image>, out: &mut Findings) {
    let parts = message.content.into_iter().flat_map(|content| content.items());
    for part in parts.filter(|part| part.get("type").is_some_and(|kind| kind.is("image_url"))) {
        parts::check_role(message, part, out);
        let hash = check_part(part, out);
        images.push(Image { place: part.into(), hash });
    }
}

/// Returns the hash of the image's bytes.
fn check_part(part: Value, out: &mut Findings) -> Option<u64> {
    let image = parts::check_form(part, out)?;
    let url = if image.kind() == Kind::String { image } else { parts::check_object(image, out)? };
    let text = url.text()?;
    match text.trim_start().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        true if nothing_wanted(out.options) => None,
        true => data_uris::check_data_uri(url, &text, out),
        false => {
            urls::check_url(url, &text, out);
            None
        }
    }
}

/// Every rule of images is ignored: they need not be decoded.
fn nothing_wanted(options: &ReadOptions) -> bool {
    !rules().iter().any(|rule| rule.group == Group::Images && options.wants(rule.id))
}

#[cfg(test)]
mod tests {
    use super::{Group, rules};
    use crate::{
        Method, Profile, ReadOptions, Severity,
        testing::{image_records, read_all},
    };

    #[test]
    fn the_example_that_comes_with_the_project_is_good_everywhere() {
        let data = include_str!("../../../../data/vision.jsonl");
        for profile in [Profile::OpenAi, Profile::Together, Profile::Local] {
            let (diagnostics, examples, _) = read_all(data.as_bytes(), &ReadOptions::new(Method::Sft, profile));
            let bad: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.severity != Severity::Info).collect();
            assert!(bad.is_empty(), "{bad:?}");
            assert_eq!(examples.len(), data.lines().count());
        }
        assert!((12..=16).contains(&data.lines().count()) && data.matches("image_url\": {").count() >= 15);
    }

    #[test]
    fn an_image_is_looked_at_for_as_long_as_one_rule_is_wanted() {
        let file = image_records(&["data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,?"]);
        let found = |wanted: &str| -> Vec<&str> {
            let mut options = ReadOptions::new(Method::Sft, Profile::Local);
            let ids = rules().iter().filter(|rule| rule.group == Group::Images).map(|rule| rule.id);
            options.ignored = ids.filter(|id| *id != wanted).map(str::to_owned).collect();
            let (diagnostics, _, _) = read_all(file.as_bytes(), &options);
            diagnostics.iter().map(|diagnostic| diagnostic.rule).filter(|rule| rule.starts_with("image")).collect()
        };
        assert_eq!(found("image-truncated"), ["image-truncated"]);
        assert_eq!(found("image-base64-invalid"), ["image-base64-invalid"]);
        assert_eq!(found(""), [""; 0]);
    }
}
