//! The images of a file: how many examples have some, and those that come again.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    diagnostic::Severity,
    facts::Facts,
    findings::{Findings, Place},
    read::Profile,
};

/// Examples with images in a file, at the services that say so.
const MAX_EXAMPLES: usize = 50_000;

/// So many images are remembered; what comes later is compared with them.
const MAX_REMEMBERED: usize = 4_000_000;

/// The images of a file: at most 24 bytes for each different one.
#[derive(Default)]
pub(super) struct Images {
    /// Hash of an image, and the line it was first seen in.
    seen: HashMap<u64, u32, rapidhash::fast::RandomState>,
    examples: usize,
    /// Line of the first example over the limit.
    first_over: usize,
}

impl Images {
    /// The images of one more record. Findings are about it.
    pub(super) fn check(&mut self, facts: &Facts, out: &mut Findings) {
        let (line, images) = (facts.line, &facts.images);
        let Some(first) = images.first() else { return };
        if self.examples == 0 {
            image_policy(first.place, out);
        }
        self.examples += 1;
        if self.examples == MAX_EXAMPLES + 1 {
            self.first_over = line;
        }
        for image in images {
            let Some(hash) = image.hash else { continue };
            let room = self.seen.len() < MAX_REMEMBERED;
            match self.seen.entry(hash) {
                // Twice in one example is a comparison of the two.
                Entry::Occupied(first) if *first.get() != line as u32 => {
                    duplicate_image(image.place, *first.get(), out);
                }
                Entry::Vacant(entry) if room => {
                    entry.insert(line as u32);
                }
                _ => {}
            }
        }
    }

    /// All records were seen. The findings are about lines of the file.
    pub(super) fn finish(&self, out: &mut Findings) {
        too_many_image_examples(self.examples, self.first_over, out);
    }
}

/// A file has more than 50,000 examples with images.
///
/// OpenAI and Azure refuse it. Examples of text only do not count. Split the file, or take a sample.
fn too_many_image_examples(examples: usize, first_over: usize, out: &mut Findings) {
    if examples > MAX_EXAMPLES && matches!(out.options.profile, Profile::OpenAi | Profile::Azure) {
        out.error(
            "too-many-image-examples",
            Place::line(first_over),
            format!(
                "expected at most {MAX_EXAMPLES} examples with images, found {examples}, the first too many is here"
            ),
            "split the file, or take a sample",
        );
    }
}

/// The file has images, and the service leaves out some kinds.
///
/// OpenAI skips examples with images of people, faces, children or CAPTCHAs, Azure those of people, faces or CAPTCHAs.
/// Which ones cannot be told here. Said once, at the first image.
fn image_policy(place: Place, out: &mut Findings) {
    let (service, kinds) = match out.options.profile {
        Profile::OpenAi => ("OpenAI", "people, faces, children or CAPTCHAs"),
        Profile::Azure => ("Azure", "people, faces or CAPTCHAs"),
        Profile::Together | Profile::Local => return,
    };
    out.add(
        Severity::Info,
        "image-policy",
        place,
        format!("{service} skips examples with images of {kinds}, which cannot be told here"),
        "leave such images out",
    );
}

/// The same image, byte by byte, is in several examples.
///
/// The model sees it more often than the others and may learn it by heart. Fine where each example asks something else
/// about it. In training and validation data it makes the validation look better than it is.
fn duplicate_image(place: Place, first_line: u32, out: &mut Findings) {
    out.warning(
        "duplicate-image",
        place,
        format!("expected a new image, found the one of line {first_line} again"),
        "use another image, unless the question differs",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{
        Method, ReadOptions,
        picture::samples::{base64, png},
        testing::{check_with, image_records, read_all},
    };

    fn image(width: u32) -> String {
        format!("data:image/png;base64,{}", base64(&png(width, 2, 8, 2)))
    }

    fn check_openai(file: &str, expect: expect_test::Expect) {
        check_with(&ReadOptions::new(Method::Sft, Profile::OpenAi), file, expect);
    }

    #[test]
    fn the_same_bytes_in_two_examples_are_a_warning_however_they_are_written() {
        let (first, second) = (image(3), image(4));
        let escaped = first.replace('/', r"\/");
        let broken = format!(r"{}\n", first);
        check_openai(
            &image_records(&[&first, &second, &escaped, &broken]),
            expect![[r#"
                3:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 1 again
                4:40: warning[duplicate-image] /messages/0/content/0: expected a new image, found the one of line 1 again
                4:222: warning[image-base64-whitespace] /messages/0/content/0/image_url/url: expected base64 in one piece, found a space or line break in it
            "#]],
        );
    }

    #[test]
    fn the_same_image_twice_in_one_example_is_a_comparison() {
        let part = format!(r#"{{"type":"image_url","image_url":{{"url":"{}"}}}}"#, image(3));
        let file = format!(
            r#"{{"messages":[{{"role":"user","content":[{part},{part}]}},{{"role":"assistant","content":"The same."}}]}}"#
        );
        check_openai(&file, expect![""]);
    }

    #[test]
    fn a_url_that_comes_again_may_be_meant() {
        let url = "https://example.com/a.png";
        check_openai(&image_records(&[url, url]), expect![""]);
    }

    #[test]
    fn the_policy_is_told_once_and_where_there_is_one() {
        let told = |profile| {
            let file = image_records(&["https://example.com/a.png", "https://example.com/b.png"]);
            let (diagnostics, ..) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, profile));
            let told = diagnostics.iter().filter(|diagnostic| diagnostic.rule == "image-policy");
            told.map(|diagnostic| diagnostic.line).collect::<Vec<_>>()
        };
        assert_eq!((told(Profile::OpenAi), told(Profile::Azure)), (vec![1], vec![1]));
        assert_eq!((told(Profile::Together), told(Profile::Local)), (vec![], vec![]));
    }

    #[test]
    fn fifty_thousand_examples_with_images_are_the_limit() {
        let found = |count: usize| {
            let text = r#"{"messages":[{"role":"user","content":"?"},{"role":"assistant","content":"!"}]}"#;
            let urls: Vec<String> = (0..count).map(|index| format!("https://example.com/{index}.png")).collect();
            let file = format!("{text}\n{}", image_records(&urls.iter().map(String::as_str).collect::<Vec<_>>()));
            let (diagnostics, ..) = read_all(file.as_bytes(), &ReadOptions::new(Method::Sft, Profile::OpenAi));
            let about = diagnostics.into_iter().find(|diagnostic| diagnostic.rule == "too-many-image-examples");
            about.map(|diagnostic| (diagnostic.line, diagnostic.message))
        };
        assert_eq!(found(MAX_EXAMPLES), None);
        let message = "expected at most 50000 examples with images, found 50001, the first too many is here";
        assert_eq!(found(MAX_EXAMPLES + 1), Some((MAX_EXAMPLES + 2, message.to_owned())));
    }
}
