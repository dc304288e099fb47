//! How many images an example has, and of what kind of example it is.

use super::Image;
use crate::{
    findings::{Findings, Place},
    read::{Method, Profile},
};

/// The rules of an example's images together.
pub(crate) fn check_example(images: &[Image], out: &mut Findings) {
    too_many_images(images, out);
    if let Some(first) = images.first()
        && out.options.method == Method::Dpo
    {
        image_in_dpo(first.place, out);
    }
}

/// An example has more than 10 images.
///
/// All its messages together. Azure takes 64, and `--profile local` any number. Split the example.
fn too_many_images(images: &[Image], out: &mut Findings) {
    let most = match out.options.profile {
        Profile::OpenAi | Profile::Together => 10,
        Profile::Azure => 64,
        Profile::Local => return,
    };
    if let Some(over) = images.get(most) {
        out.error(
            "too-many-images",
            over.place,
            format!("expected at most {most} images in an example, found {}", images.len()),
            "split the example, or drop images",
        );
    }
}

/// A preference example has an image.
///
/// OpenAI's guide says that preference fine-tuning is "only supported for text", a later note speaks of "text or image
/// content". Try it with a small file first. Said once an example.
fn image_in_dpo(place: Place, out: &mut Findings) {
    out.warning(
        "image-in-dpo",
        place,
        "expected text in a preference example, found an image, which may not be supported",
        "use text only, or try a small file first",
    );
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::{
        Method, Profile, ReadOptions,
        testing::{check_with, read_all},
    };

    const IMAGE: &str = r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#;

    /// An example with so many images in each of its user messages.
    fn example(counts: &[usize]) -> String {
        let turn = |count: &usize| {
            let images = vec![IMAGE; *count].join(",");
            format!(r#"{{"role":"user","content":[{images}]}},{{"role":"assistant","content":"Squares."}}"#)
        };
        format!(r#"{{"messages":[{}]}}"#, counts.iter().map(turn).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn the_images_of_an_example_are_counted_over_its_messages() {
        let file = [example(&[10]), example(&[11]), example(&[6, 6])].join("\n");
        check_with(
            &ReadOptions::new(Method::Sft, Profile::OpenAi),
            file,
            expect![[r#"
                2:730: error[too-many-images] /messages/0/content/10: expected at most 10 images in an example, found 11
                3:800: error[too-many-images] /messages/2/content/4: expected at most 10 images in an example, found 12
            "#]],
        );
    }

    #[test]
    fn azure_takes_64_and_training_here_any_number() {
        let found = |count: usize, profile| {
            let (diagnostics, ..) = read_all(example(&[count]).as_bytes(), &ReadOptions::new(Method::Sft, profile));
            diagnostics.iter().filter(|diagnostic| diagnostic.rule == "too-many-images").count()
        };
        assert_eq!([found(64, Profile::Azure), found(65, Profile::Azure)], [0, 1]);
        assert_eq!([found(11, Profile::Together), found(100, Profile::Local)], [1, 0]);
    }

    #[test]
    fn an_image_in_a_preference_example_is_a_warning() {
        let answer = |name: &str, content: &str| format!(r#""{name}":[{{"role":"assistant","content":{content}}}]"#);
        let input = format!(r#""input":{{"messages":[{{"role":"user","content":[{IMAGE},{IMAGE}]}}]}}"#);
        let (yes, no) = (answer("preferred_output", r#""A""#), answer("non_preferred_output", r#""B""#));
        let file = format!(
            "{{{input},{yes},{no}}}\n{{{input},{yes},{}}}",
            answer("non_preferred_output", &format!("[{IMAGE}]"))
        );
        check_with(
            &ReadOptions::new(Method::Dpo, Profile::OpenAi),
            file,
            expect![[r#"
                1:49: warning[image-in-dpo] /input/messages/0/content/0: expected text in a preference example, found an image, which may not be supported
                2:49: warning[image-in-dpo] /input/messages/0/content/0: expected text in a preference example, found an image, which may not be supported
                2:302: error[image-in-assistant] /non_preferred_output/0/content/0: expected text in an assistant message, found an image
            "#]],
        );
    }
}
