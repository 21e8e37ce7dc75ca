/* Text <-> token ids. One tokenizer.json holds everything; Hugging Face's `tokenizers` reads it to
 * the same ids (data/README.md). */
#pragma once
#include "base.h"

typedef enum TokenizerKind {
    TOKENIZER_CHAR,
    TOKENIZER_BYTE,
    TOKENIZER_WORD,       /* words, marks and line ends */
    TOKENIZER_WORD_LOWER, /* the same, in lower case */
    TOKENIZER_BPE         /* byte pairs, as GPT-2 has them */
} TokenizerKind;

typedef struct TokenizerChar {
    int32_t code, id;
} TokenizerChar;

typedef struct TokenizerMerge {
    int32_t left, right, made; /* ids */
} TokenizerMerge;

/* GPT-2's one special token. */
#define END_OF_TEXT "<|endoftext|>"

typedef struct Tokenizer {
    TokenizerKind kind;
    int32_t n_vocab;
    /* Text of token i: text[offset[i]] .. text[offset[i+1]-1], raw bytes. */
    char *text;
    int32_t *offset;
    /* Character tokenizer: its n_vocab characters by code point. NULL otherwise. */
    TokenizerChar *chars;
    /* Word tokenizer: ids by their text, for tokenizer_find, and what unknown words become. */
    int32_t *sorted;
    int32_t unknown;
    /* Byte pairs: earlier merges go first; `sorted` as for words. A special token is one wherever
     * its text stands. An id that no token has has an empty text. */
    TokenizerMerge *merges;
    int32_t n_merges;
    int32_t *specials, n_specials;
    bool whole_first; /* a piece of the split that is a token as a whole is not merged */
    char *split;      /* the split's pattern, as tokenizer.json has it; NULL: GPT-2's */
    struct Bpe *bpe;
} Tokenizer;

static inline bool tokenizer_is_word(const Tokenizer *t) {
    return t->kind == TOKENIZER_WORD || t->kind == TOKENIZER_WORD_LOWER;
}

/* A character tokenizer over the distinct code points of a text, in code point order. Fails on text
 * that is not UTF-8 (byte offset named) or empty. `name` is the file, for errors. */
bool tokenizer_make_char(Tokenizer *t, const char *name, const char *text, int64_t bytes, Error *e);
/* 256 byte tokens, ids in GPT-2's byte-to-unicode order as tokenizer.json needs them. */
bool tokenizer_make_byte(Tokenizer *t, Error *e);
/* A word tokenizer: <PAD> <UNK> <START> <END>, then the words, marks and line ends that the text
 * has at least min_count times, the most frequent first, `most` tokens in all (0: any number).
 * Fails on text that is not UTF-8, holds NUL, or has no such word. */
bool tokenizer_make_words(Tokenizer *t, TokenizerKind kind, const char *name, const char *text,
                          int64_t bytes, int64_t min_count, int64_t most, Error *e);
/* Byte pairs learned from a text: n_vocab tokens, of which 256 are bytes and the last END_OF_TEXT.
 * The merges are those of Hugging Face's trainer, whatever the number of threads. Misuse: n_vocab
 * below 258, or so large that a pair would be merged that occurs less than min_count times. Fails
 * on text that is not UTF-8. */
bool tokenizer_train_bpe(Tokenizer *t, const char *name, const char *text, int64_t bytes,
                         int64_t n_vocab, int64_t min_count, int n_threads, Error *e);
/* "word" and "word-lower" to their kind; TOKENIZER_CHAR for all else. */
TokenizerKind tokenizer_word_kind(const char *name);
/* Whether min_count says anything: of words and of byte pairs that are learned from a text. */
bool tokenizer_counts(const char *name);
/* Token i is words[i], all different; <UNK> is among them. */
bool tokenizer_from_words(Tokenizer *t, TokenizerKind kind, const char *name,
                          const char *const *words, int32_t n, Error *e);
/* Word and byte-pair tokenizers: the id of a token by its text, or -1. */
int32_t tokenizer_find(const Tokenizer *t, const char *text, int64_t bytes);
/* The id of a word that a user names: a token with this text, or with a space before it, or in
 * small letters. Misuse: there is none; the nearest spellings are named, or what the tokens are if
 * they are no words. */
bool tokenizer_find_word(const Tokenizer *t, const char *word, int32_t *id, Error *e);
/* The same for every word of a text, where the tokens are words; true of other tokenizers. */
bool tokenizer_check_words(const Tokenizer *t, const char *text, int64_t bytes, Error *e);
/* False for <PAD>, <UNK> and their like. */
bool tokenizer_is_plain(const Tokenizer *t, int32_t id);
/* Whether a space stands between a token and the one before it (-1: none) when a text is put
 * together: only a word tokenizer has no tokens of spaces. */
bool tokenizer_spaces(const Tokenizer *t, int32_t before, int32_t id);
/* A byte-pair vocabulary as its files say it. */
typedef struct TokenizerPairs {
    int32_t n_vocab;
    const char **text; /* of each id, NULL where no token has it */
    int32_t *bytes;
    const char *const *merges; /* "a b", in GPT-2's alphabet for bytes */
    int32_t n_merges;
    const int32_t *specials;
    int32_t n_specials;
    bool whole_first;
    const char *split; /* both as in Tokenizer */
} TokenizerPairs;
/* Fails on a byte without a token, on tokens of the same text, on merges that are twice there, of
 * unknown parts, or make an unknown token, and, where no token is made in two ways, on merges that
 * are out of order. */
bool tokenizer_from_pairs(Tokenizer *t, const char *name, const TokenizerPairs *p, Error *e);
/* From merges alone. Ids: 256 bytes in the alphabet's order, one a merge, END_OF_TEXT. */
bool tokenizer_from_merges(Tokenizer *t, const char *name, const char *const *merges, int32_t n,
                           Error *e);
/* The same from the bytes of GPT-2's vocab.bpe or merges.txt. */
bool tokenizer_parse_merges(Tokenizer *t, const char *name, const char *file, int64_t bytes,
                            Error *e);
/* A text in GPT-2's alphabet for bytes, as these bytes, into `out`, which is no shorter. Returns
 * how many, or -1 if a character is none of the alphabet's. */
int64_t tokenizer_read_alphabet(const char *text, int64_t bytes, char *out);
/* The way back, into `out`, which has twice the room. */
int64_t tokenizer_write_alphabet(const char *text, int64_t bytes, char *out);
/* tiktoken's file, lines of a token in base64 and its rank, which is its id. It says no more, so
 * that 100,256 tokens are taken for cl100k_base, with its split and special tokens, and any other
 * number for GPT-2's split and END_OF_TEXT as the first free id. */
bool tokenizer_parse_ranks(Tokenizer *t, const char *name, const char *file, int64_t bytes,
                           Error *e);
/* Token i is code[i]; the code points are distinct. */
bool tokenizer_from_codes(Tokenizer *t, const int32_t *code, int32_t n, Error *e);
/* Token i is byte[i], a permutation of 0..255. */
bool tokenizer_from_bytes(Tokenizer *t, const uint8_t byte[256], Error *e);
/* GPT-2's byte-to-unicode map: printable bytes stand for themselves, the others for U+0100 on. */
void tokenizer_byte_codes(int32_t code[256]);
/* Reads a tokenizer, or refuses by name what it cannot represent exactly: a tokenizer.json; GPT-2's
 * vocab.bpe; a merges.txt, with the ids of a vocab.json beside it; tiktoken's ranks; of a folder
 * its tokenizer.json or merges.txt, or those of its newest checkpoint if it is a run. The name
 * "gpt2" stands for the vocab.bpe that data/fetch.sh fetches. */
bool tokenizer_load(Tokenizer *t, const char *path, Error *e);
/* The path of the tokenizer that lies in a folder, where there is one: false otherwise. */
bool tokenizer_path(const char *folder, char *path, size_t size);
bool tokenizer_parse(Tokenizer *t, const char *name, const char *json, int64_t bytes, Error *e);
bool tokenizer_save(const Tokenizer *t, const char *path, Error *e);
void tokenizer_free(Tokenizer *t);

/* Writes the ids of `text`; `ids` has room for `bytes` of them. Returns the count, or -1 with an
 * Error that names the character (as U+XXXX) and its line and column in `name`. */
int64_t tokenizer_encode(const Tokenizer *t, const char *name, const char *text, int64_t bytes,
                         int32_t *ids, Error *e);
/* Raw bytes of one token; not NUL-terminated. */
const char *tokenizer_text(const Tokenizer *t, int32_t id, int32_t *bytes);
/* XXH3 of kind, vocabulary and merges: the same tokenizer, the same hash. */
uint64_t tokenizer_hash(const Tokenizer *t);
