//! What was declared before: real files repeat the same tools on every line.

use std::{cell::RefCell, sync::Arc};

use rapidhash::RapidHashMap;

use super::{declarations::Function, schema::Schema};
use crate::json::Value;

/// Bytes of declarations that a thread remembers; a compiled schema takes about twenty times its text.
const MOST_BYTES: usize = 1 << 20;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// By the text as written. When it is full it forgets everything: a file with ever new tools gains nothing from it.
#[derive(Default)]
struct Cache {
    schemas: RapidHashMap<Box<str>, Arc<Schema>>,
    /// Values of `tools` in which nothing was found, and what they declare.
    clean: RapidHashMap<Box<str>, Arc<[Function]>>,
    bytes: usize,
}

impl Cache {
    /// Whether there is room for another `bytes`, if need be after forgetting.
    fn make_room(&mut self, bytes: usize) -> bool {
        if bytes > MOST_BYTES {
            return false;
        }
        if self.bytes + bytes > MOST_BYTES {
            *self = Cache::default();
        }
        self.bytes += bytes;
        true
    }
}

/// The parameters, compiled.
pub(super) fn schema(parameters: Value) -> Arc<Schema> {
    let text = parameters.raw();
    if let Some(schema) = CACHE.with_borrow(|cache| cache.schemas.get(text).cloned()) {
        return schema;
    }
    let schema = Arc::new(Schema::compile(parameters));
    CACHE.with_borrow_mut(|cache| {
        if cache.make_room(text.len()) {
            cache.schemas.insert(text.into(), schema.clone());
        }
    });
    schema
}

/// The functions of a value of `tools` that was seen before without a fault.
pub(super) fn clean(list: Value) -> Option<Arc<[Function]>> {
    CACHE.with_borrow(|cache| cache.clean.get(list.raw()).cloned())
}

/// Remembers that `list` has no fault.
pub(super) fn remember(list: Value, functions: &Arc<[Function]>) {
    CACHE.with_borrow_mut(|cache| {
        if cache.make_room(list.raw().len()) {
            cache.clean.insert(list.raw().into(), functions.clone());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Parser;

    #[test]
    fn the_same_text_is_compiled_once_and_memory_is_bounded() {
        let mut parser = Parser::default();
        let mut compiled = |text: &str| schema(parser.parse(text, 0).root().unwrap());
        let first = compiled(r#"{"type":"object"}"#);
        assert!(Arc::ptr_eq(&first, &compiled(r#"{"type":"object"}"#)));
        assert!(!Arc::ptr_eq(&first, &compiled(r#"{"type": "object"}"#)));
        let long = "x".repeat(MOST_BYTES / 8);
        for index in 0..20 {
            compiled(&format!(r#"{{"description":"{index}{long}"}}"#));
            assert!(CACHE.with_borrow(|cache| cache.bytes) <= MOST_BYTES);
        }
        assert!(!Arc::ptr_eq(&first, &compiled(r#"{"type":"object"}"#)));
    }
}
