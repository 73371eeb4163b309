//! Looks for tokens inside types, without caring where in the type they stand.

use proc_macro2::{Delimiter, TokenTree};
use quote::ToTokens;

/// The word `word`.
pub(crate) fn word(ty: impl ToTokens, word: &str) -> Option<TokenTree> {
    find(ty, &|tokens| matches!(tokens, [TokenTree::Ident(it), ..] if it == word))
}

/// A lifetime.
pub(crate) fn lifetime(ty: impl ToTokens) -> Option<TokenTree> {
    find(ty, &|tokens| matches!(tokens, [TokenTree::Punct(it), ..] if it.as_char() == '\''))
}

/// A `&`, or a lifetime that is not `'static`.
pub(crate) fn borrow(ty: impl ToTokens) -> Option<TokenTree> {
    find(ty, &|tokens| match tokens {
        [TokenTree::Punct(it), ..] if it.as_char() == '&' => true,
        [TokenTree::Punct(it), TokenTree::Ident(name), ..] if it.as_char() == '\'' => {
            name != "static"
        }
        _ => false,
    })
}

/// The first token for which `wanted` says so of the tokens from there on. Expressions (the length
/// of an array, a constant in braces) are left out.
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
    fn a_borrow_is_found_however_deep_it_is() {
        assert!(borrow(quote!(Vec<(u8, Option<&str>)>)).is_some());
        assert!(borrow(quote!(Cow<'_, str>)).is_some());
        assert!(borrow(quote!(Cow<'static, str>)).is_none());
    }

    #[test]
    fn lengths_are_expressions_and_borrow_nothing() {
        assert!(borrow(quote!([u8; SIZE & 7])).is_none());
        assert!(borrow(quote!(Grid<{ SIZE & 7 }>)).is_none());
    }

    #[test]
    fn a_word_is_found_whole() {
        assert!(word(quote!(Vec<impl Send>), "impl").is_some());
        assert!(word(quote!(Vec<implement>), "impl").is_none());
    }
}
