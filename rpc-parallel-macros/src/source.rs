//! Finds the declaration of a trait beside its impl, in the text of the source file.
//!
//! The code of an impl names the client of the trait. If the trait has no `#[worker]`, this name
//! does not exist, and rustc reports only that. The input of a macro is its own item alone, so this
//! file reads the source to report the cause. Every ambiguous case returns `None`, and rustc reports
//! the missing name.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ItemTrait;
use syn::parse::{ParseStream, Parser};

use crate::head::ImplHead;
use crate::text::text;

/// Attributes that cannot add `#[worker]`.
const INERT: [&str; 11] = [
    "allow",
    "cfg",
    "clippy",
    "deny",
    "deprecated",
    "diagnostic",
    "doc",
    "expect",
    "must_use",
    "rustfmt",
    "warn",
];

/// Returns the trait of an impl, if `source` declares it next to the impl, without an attribute
/// that can be `#[worker]`.
pub(crate) fn trait_without_attribute(head: &ImplHead, source: &str) -> Option<ItemTrait> {
    let name = head.trait_.as_ref()?.path.get_ident()?;
    // Most files have no such trait. Those are not tokenized.
    if !may_declare_without_attribute(source, &name.to_string()) {
        return None;
    }
    let implementation = text(quote!(#name for)) + &text(&head.self_ty);
    let item = find(source.parse().ok()?, &name.to_string(), &implementation)?;
    let parser = |input: ParseStream| {
        let item = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(item)
    };
    parser.parse2(item).ok()
}

/// Returns whether the text has a `trait name` with no `worker` between it and the item before it.
fn may_declare_without_attribute(source: &str, name: &str) -> bool {
    let declaration = format!("trait {name}");
    source.match_indices(&declaration).any(|(start, _)| {
        let before = &source[..start];
        let attributes = before.rfind(['}', ';']).map_or(before, |end| &before[end..]);
        !attributes.contains("worker")
    })
}

/// Searches lists of items for one that has both the trait and its impl, and returns the tokens of
/// the list from the trait on.
fn find(tokens: TokenStream, name: &str, implementation: &str) -> Option<TokenStream> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    if let Some(start) = declaration(&tokens, name)
        && has_impl(&tokens, implementation)
    {
        return Some(tokens[start..].iter().cloned().collect());
    }
    (0..tokens.len()).find_map(|index| match &tokens[index] {
        TokenTree::Group(group)
            if group.delimiter() == Delimiter::Brace && !is_macro_input(&tokens[..index]) =>
        {
            find(group.stream(), name, implementation)
        }
        _ => None,
    })
}

/// Returns the index of the first token of the trait. Returns `None` if one of the traits of this
/// name, between which `#[cfg]` can choose, can have the attribute.
fn declaration(tokens: &[TokenTree], name: &str) -> Option<usize> {
    let keywords = (1..tokens.len())
        .filter(|&index| is_ident(&tokens[index - 1], "trait") && is_ident(&tokens[index], name))
        .map(|index| index - 1);
    let starts: Option<Vec<_>> = keywords.map(|keyword| item_start(tokens, keyword)).collect();
    starts?.first().copied()
}

/// Returns the index of the first token of the item with this keyword. Returns `None` if the item
/// has an attribute that can be, or can add, `#[worker]`.
fn item_start(tokens: &[TokenTree], keyword: usize) -> Option<usize> {
    let mut start = keyword;
    loop {
        start = match &tokens[..start] {
            [.., TokenTree::Ident(ident)] if *ident == "pub" || *ident == "unsafe" => start - 1,
            // `pub(..)`
            [.., TokenTree::Ident(ident), TokenTree::Group(_)] if *ident == "pub" => start - 2,
            [.., TokenTree::Punct(hash), TokenTree::Group(group)] if hash.as_char() == '#' => {
                let attribute = group.stream().into_iter().next()?;
                if !INERT.iter().any(|inert| is_ident(&attribute, inert)) {
                    return None;
                }
                start - 2
            }
            _ => return Some(start),
        };
    }
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

/// Returns whether the tokens have an `impl` that continues with the text `implementation`.
fn has_impl(tokens: &[TokenTree], implementation: &str) -> bool {
    let is_body = |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    (0..tokens.len()).filter(|&index| is_ident(&tokens[index], "impl")).any(|index| {
        let head = tokens[index + 1..].iter().take_while(|token| !is_body(token));
        text(head.map(ToTokens::to_token_stream).collect::<TokenStream>()) == implementation
    })
}

/// Returns whether a group after these tokens is the input of a macro: `name!` or `macro_rules!
/// name`.
fn is_macro_input(before: &[TokenTree]) -> bool {
    let is_bang = |token: &TokenTree| matches!(token, TokenTree::Punct(it) if it.as_char() == '!');
    match before {
        [.., bang, TokenTree::Ident(_)] if is_bang(bang) => true,
        [.., bang] => is_bang(bang),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(source: &str) -> bool {
        let head = syn::parse_quote!(impl Bank for Ledger<u8> {});
        trait_without_attribute(&head, source).is_some()
    }

    #[test]
    fn trait_without_attribute_beside_impl_is_found() {
        assert!(is_found("trait Bank {} #[rpc_parallel::worker] impl Bank for Ledger<u8> {}"));
        assert!(is_found(
            "mod m { /// A bank.\n #[cfg(unix)] pub(crate) trait Bank { fn f(&self); }
             struct Ledger<T>(T); #[worker] impl Bank for Ledger <u8> { fn f(&self) {} } }"
        ));
        assert!(is_found("fn main() { trait Bank {} impl Bank for Ledger<u8> {} }"));
    }

    #[test]
    fn trait_with_attribute_that_can_be_worker_is_not_found() {
        assert!(!is_found("#[rpc_parallel::worker] trait Bank {} impl Bank for Ledger<u8> {}"));
        assert!(!is_found("#[w] pub trait Bank {} impl Bank for Ledger<u8> {}"));
        assert!(!is_found("#[cfg_attr(unix, worker)] trait Bank {} impl Bank for Ledger<u8> {}"));
        assert!(!is_found(
            "#[cfg(unix)] trait Bank {} #[w] trait Bank {} impl Bank for Ledger<u8> {}"
        ));
    }

    #[test]
    fn trait_in_other_list_or_in_macro_input_is_not_found() {
        assert!(!is_found("mod a { trait Bank {} } impl Bank for Ledger<u8> {}"));
        assert!(!is_found("trait Bank {} mod a { impl Bank for Ledger<u8> {} }"));
        assert!(!is_found("trait Bank {} impl Bank for Ledger<u16> {}"));
        assert!(!is_found("declare! { trait Bank {} impl Bank for Ledger<u8> {} }"));
        assert!(!is_found(
            "macro_rules! m { () => { trait Bank {} impl Bank for Ledger<u8> {} } }"
        ));
        assert!(!is_found("trait Banker {} impl Bank for Ledger<u8> {}"));
    }
}
