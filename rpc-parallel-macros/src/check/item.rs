//! The items to which each attribute can be applied.

use crate::errors::Errors;
use crate::head::Item;

/// `#[worker]` is applied to a trait or an impl.
pub(crate) fn worker_item(item: &Item, errors: &mut Errors) {
    if let Item::Function(word) | Item::Other(word) = item {
        errors.add(
            word,
            "`#[worker]` must be applied to a trait, or to the impl of a worker trait for a type",
            "declare the functions in a trait, and put `#[worker]` on the trait and on its impl",
        );
    }
}

/// `#[process]` is applied to a function.
pub(crate) fn process_item(item: &Item, errors: &mut Errors) {
    if let Item::Trait(word) | Item::Impl(word) | Item::Other(word) = item {
        errors.add(
            word,
            "`#[process]` must be applied to a function",
            "write it above a `fn` or an `async fn`; for functions that share a state, declare a \
             trait with `#[worker]`",
        );
    }
}

/// `#[entry]` is applied to a function.
pub(crate) fn entry_item(item: &Item, errors: &mut Errors) {
    if let Item::Trait(word) | Item::Impl(word) | Item::Other(word) = item {
        super::start::not_main(word, errors);
    }
}

/// `#[rpc_parallel::test]` is applied to a function.
pub(crate) fn test_item(item: &Item, errors: &mut Errors) {
    if let Item::Trait(word) | Item::Impl(word) | Item::Other(word) = item {
        errors.add(
            word,
            "`#[rpc_parallel::test]` must be applied to a function",
            "write the test as an `async fn` or a `fn`",
        );
    }
}
