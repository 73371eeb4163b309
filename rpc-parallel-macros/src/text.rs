//! Types as text without spaces. Ids are hashed from this text.
//!
//! The text must not depend on the version of rustc, so this file walks the tokens instead of using
//! their `Display`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// Returns the text of the tokens, without spaces between them.
pub(crate) fn text(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(&mut text, tokens.into_token_stream());
    text
}

fn write(text: &mut String, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                // Types that pass through `macro_rules!` are in groups without delimiters.
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(text, group.stream());
                text.push_str(close);
            }
            TokenTree::Ident(ident) => text.push_str(&ident.to_string()),
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            TokenTree::Literal(literal) => text.push_str(&literal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn text_of_type_has_no_spaces() {
        let written = quote!(&[HashMap<String, (u8, [u16; 3])>]);

        assert_eq!(text(written), "&[HashMap<String,(u8,[u16;3])>]");
    }

    #[test]
    fn text_of_type_from_another_macro_is_the_same() {
        let group = proc_macro2::Group::new(Delimiter::None, quote!(Vec<u8>));

        assert_eq!(text(quote!(Option<#group>)), "Option<Vec<u8>>");
    }
}
