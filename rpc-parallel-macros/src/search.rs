//! Finds tokens inside types, at any depth.

use proc_macro2::{Delimiter, TokenTree};
use quote::ToTokens;

/// Returns the first identifier or keyword `word`.
pub(crate) fn word(ty: impl ToTokens, word: &str) -> Option<TokenTree> {
    find(ty, &|tokens| matches!(tokens, [TokenTree::Ident(it), ..] if it == word))
}

/// Returns the first lifetime.
pub(crate) fn lifetime(ty: impl ToTokens) -> Option<TokenTree> {
    find(ty, &|tokens| matches!(tokens, [TokenTree::Punct(it), ..] if it.as_char() == '\''))
}

/// Returns the first `&`, or the first lifetime other than `'static`.
pub(crate) fn borrow(ty: impl ToTokens) -> Option<TokenTree> {
    find(ty, &|tokens| match tokens {
        [TokenTree::Punct(it), ..] if it.as_char() == '&' => true,
        [TokenTree::Punct(it), TokenTree::Ident(name), ..] if it.as_char() == '\'' => {
            name != "static"
        }
        _ => false,
    })
}

/// Returns the first token at which `wanted` accepts the remaining tokens.
///
/// Skips expressions: the length of an array, and constants in braces.
fn find(ty: impl ToTokens, wanted: &impl Fn(&[TokenTree]) -> bool) -> Option<TokenTree> {
    let tokens: Vec<_> = ty.into_token_stream().into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(it) if it.as_char() == ';' => return None,
            TokenTree::Group(group) if group.delimiter() != Delimiter::Brace => {
                if let Some(found) = find(group.stream(), wanted) {
                    return Some(found);
                }
            }
            _ if wanted(&tokens[index..]) => return Some(token.clone()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn borrow_inside_type_is_found() {
        assert!(borrow(quote!(Vec<(u8, Option<&str>)>)).is_some());
        assert!(borrow(quote!(Cow<'_, str>)).is_some());
        assert!(borrow(quote!(Cow<'static, str>)).is_none());
    }

    #[test]
    fn operators_in_constants_are_no_borrows() {
        assert!(borrow(quote!([u8; SIZE & 7])).is_none());
        assert!(borrow(quote!(Grid<{ SIZE & 7 }>)).is_none());
    }

    #[test]
    fn only_whole_words_match() {
        assert!(word(quote!(Vec<impl Send>), "impl").is_some());
        assert!(word(quote!(Vec<implement>), "impl").is_none());
    }
}
