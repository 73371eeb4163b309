//! Items of which only the head is read: what stands between their braces remains tokens.
//!
//! So bodies reach the compiler exactly as written, half-typed ones too.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Generics, Path, Signature, Token, Type, Visibility, WhereClause, token};

/// What kind of item some tokens are, with the word that says so.
pub(crate) enum Item {
    Trait(TokenStream),
    Impl(TokenStream),
    Function(TokenStream),
    Other(TokenStream),
}

impl Item {
    pub(crate) fn of(item: &TokenStream) -> Item {
        let idents = item.clone().into_iter().filter_map(|token| match token {
            TokenTree::Ident(ident) if ident != "pub" => Some(ident),
            _ => None,
        });
        let mut words = idents.clone();
        let keyword = words.find(|ident| KEYWORDS.iter().any(|it| ident == it));
        let word = keyword.or(idents.clone().next());
        let kind = match &word {
            Some(word) if word == "trait" => Item::Trait,
            Some(word) if word == "impl" => Item::Impl,
            Some(word) if word == "fn" => Item::Function,
            _ => Item::Other,
        };
        kind(word.into_token_stream())
    }
}

/// The first of these words in an item says what the item is. `const` and `extern` are not
/// among them, since functions begin with these too.
const KEYWORDS: [&str; 9] =
    ["trait", "impl", "fn", "struct", "enum", "union", "mod", "type", "static"];

/// A function with a body.
pub(crate) struct FunctionHead {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: TokenStream,
}

impl Parse for FunctionHead {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        Ok(FunctionHead {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl FunctionHead {
    /// The function as written, without its attributes.
    pub(crate) fn bare(&self) -> impl ToTokens {
        let Self { vis, sig, body, .. } = self;
        quote!(#vis #sig #body)
    }
}

impl FunctionHead {
    /// Whether this is what `#[tokio::main]` leaves, known by the text with which it gives up.
    pub(crate) fn was_made_by_tokio(&self) -> bool {
        contains_literal(self.body.clone(), "\"Failed building the Runtime\"")
    }
}

fn contains_literal(tokens: TokenStream, literal: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => contains_literal(group.stream(), literal),
        TokenTree::Literal(it) => it.to_string() == literal,
        _ => false,
    })
}

impl ToTokens for FunctionHead {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attrs);
        tokens.extend(self.bare().into_token_stream());
    }
}

/// An impl.
pub(crate) struct ImplHead {
    pub(crate) attrs: Vec<Attribute>,
    unsafety: Option<Token![unsafe]>,
    impl_token: Token![impl],
    pub(crate) generics: Generics,
    pub(crate) trait_: Option<ImplTrait>,
    pub(crate) self_ty: Type,
    pub(crate) body: Group,
}

/// `Bank for`
pub(crate) struct ImplTrait {
    pub(crate) negative: Option<Token![!]>,
    pub(crate) path: Path,
    for_token: Token![for],
}

impl Parse for ImplHead {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let unsafety = input.parse()?;
        let impl_token = input.parse()?;
        let mut generics: Generics = input.parse()?;
        let trait_ = if ImplTrait::follows(input) { Some(input.parse()?) } else { None };
        let self_ty = input.parse()?;
        generics.where_clause = input.parse::<Option<WhereClause>>()?;
        if !input.peek(token::Brace) {
            return Err(input.error("expected `{`"));
        }
        Ok(ImplHead {
            attrs,
            unsafety,
            impl_token,
            generics,
            trait_,
            self_ty,
            body: input.parse()?,
        })
    }
}

impl ImplTrait {
    fn follows(input: ParseStream) -> bool {
        input.fork().parse::<ImplTrait>().is_ok()
    }
}

impl Parse for ImplTrait {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        Ok(ImplTrait { negative: input.parse()?, path: input.parse()?, for_token: input.parse()? })
    }
}

impl ToTokens for ImplTrait {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.negative.to_tokens(tokens);
        self.path.to_tokens(tokens);
        self.for_token.to_tokens(tokens);
    }
}

impl ToTokens for ImplHead {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attrs);
        self.unsafety.to_tokens(tokens);
        self.impl_token.to_tokens(tokens);
        self.generics.to_tokens(tokens);
        self.trait_.to_tokens(tokens);
        self.self_ty.to_tokens(tokens);
        self.generics.where_clause.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}

impl ImplHead {
    /// Whether it is `impl !Trait for Type`.
    pub(crate) fn is_negative(&self) -> bool {
        self.trait_.as_ref().is_some_and(|it| it.negative.is_some())
    }

    /// Takes the `#[worker(..)]` attributes off the functions; they belong on the trait's.
    pub(crate) fn take_function_attributes(&mut self) -> Vec<TokenStream> {
        let mut taken = Vec::new();
        let mut kept = TokenStream::new();
        let mut tokens = self.body.stream().into_iter().peekable();
        while let Some(token) = tokens.next() {
            match (&token, tokens.peek()) {
                (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                    if hash.as_char() == '#' && is_worker_attribute(group) =>
                {
                    taken.push(group.stream());
                    tokens.next();
                }
                _ => kept.append(token),
            }
        }
        if !taken.is_empty() {
            let mut body = Group::new(self.body.delimiter(), kept);
            body.set_span(self.body.span());
            self.body = body;
        }
        taken
    }
}

/// A struct, enum or union.
pub(crate) struct DataHead {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
}

impl Parse for DataHead {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.call(Ident::parse_any)?;
        let ident = input.parse()?;
        let mut generics: Generics = input.parse()?;
        if input.peek(token::Paren) {
            input.parse::<Group>()?;
        }
        generics.where_clause = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(DataHead { attrs, ident, generics })
    }
}

/// Whether `[..]` is `[worker]`, `[worker(..)]` or the same with a path before it.
fn is_worker_attribute(group: &Group) -> bool {
    let path = |input: ParseStream| {
        let path = input.call(Path::parse_mod_style)?;
        input.parse::<TokenStream>()?;
        Ok(path)
    };
    group.delimiter() == Delimiter::Bracket
        && syn::parse::Parser::parse2(path, group.stream())
            .is_ok_and(|it| names_last(&it, "worker"))
}

/// Whether the last segment of `path` is `name`: our attributes may be written with a path.
pub(crate) fn names_last(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|it| it.ident.unraw() == Ident::new(name, Span::call_site()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_typed_body_is_no_obstacle() {
        let written = quote!(impl Bank for Ledger { fn deposit(&self) { self. } });

        let head: ImplHead = syn::parse2(written.clone()).expect("only the head is read");

        assert_eq!(quote!(#head).to_string(), written.to_string());
    }

    #[test]
    fn worker_attributes_on_functions_of_an_impl_are_taken_off() {
        let written = quote!(impl Bank for Ledger {
            #[rpc_parallel::worker(id = "a")]
            #[inline]
            fn deposit(&self) {}
        });
        let mut head: ImplHead = syn::parse2(written).expect("this is an impl");

        let taken = head.take_function_attributes();

        assert_eq!(taken.len(), 1);
        let left = quote!(impl Bank for Ledger { #[inline] fn deposit(&self) {} });
        assert_eq!(quote!(#head).to_string(), left.to_string());
    }

    #[test]
    fn an_item_is_known_by_its_first_keyword() {
        assert!(matches!(
            Item::of(&quote!(
                #[a]
                pub(crate) unsafe trait T {}
            )),
            Item::Trait(_)
        ));
        assert!(matches!(Item::of(&quote!(impl T for for<'a> fn(&'a u8) {})), Item::Impl(_)));
        assert!(matches!(
            Item::of(&quote!(
                pub async fn f() -> impl T {}
            )),
            Item::Function(_)
        ));
        assert!(
            matches!(Item::of(&quote!(pub struct S;)), Item::Other(it) if it.to_string() == "struct")
        );
        assert!(
            matches!(Item::of(&quote!(static S: u8 = 0;)), Item::Other(it) if it.to_string() == "static")
        );
    }
}
