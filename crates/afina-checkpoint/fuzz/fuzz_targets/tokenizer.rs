//! Whatever tokenizer.json and tokenizer_config.json hold, they are a tokenizer that GGUF can carry, or are refused; what is
//! carried reads back as the same.
#![no_main]

use afina_checkpoint::gguf::{Vocabulary, vocabulary_from_hf, write_gguf};
use afina_checkpoint::{GgufFile, chat_template};
use afina_checkpoint_fuzz::{bounded, files, folder, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = folder();
    let Some((size, rest)) = input.split_first() else { return };
    let [tokenizer, config] = files(rest);
    write(&folder, "tokenizer.json", tokenizer);
    write(&folder, "tokenizer_config.json", config);
    let vocabulary = bounded(input, 256 << 10, 64, || {
        let _ = chat_template(&folder);
        vocabulary_from_hf(&folder, usize::from(*size) * 4, &[1, 2, 3])
    });
    let Ok(vocabulary) = vocabulary else { return };
    let path = folder.join("x.gguf");
    write_gguf(&path, &vocabulary.to_metadata(), &[], &mut |_| Err("it has no tensors".into()))
        .expect("every tokenizer can be written");
    let gguf = GgufFile::open(&path).expect("what was written can be read");
    let again = Vocabulary::from_gguf(&gguf).expect("what was written can be read");
    // GGUF cannot say that SentencePiece has no such token: it then has llama.cpp's.
    let expected = Vocabulary { bos: vocabulary.bos.or(again.bos), unk: vocabulary.unk.or(again.unk), ..vocabulary };
    assert!(again == expected, "what was carried reads back as the same");
});
