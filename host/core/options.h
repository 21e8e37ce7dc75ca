/* What the files of the options table share among themselves: private to host/core. */
#pragma once
#include "config.h"

enum { OPTIONS_QUOTE_MAX = 64, OPTIONS_HINT_MAX = 512 };

/* "train" for CMD_TRAIN. */
const char *options_command_name(int command);
/* The row of an option of n bytes, '_' equal to '-', or NULL. */
const OptionRow *options_find_bytes(const char *name, size_t n);
/* Foreign text for a message: cut if long, control characters made visible. */
const char *options_quote(char quoted[OPTIONS_QUOTE_MAX], const char *text);
/* "Did you mean PREFIXnearest?", with '-' for '_', or `otherwise` if no name is near. */
const char *options_hint(char hint[OPTIONS_HINT_MAX], const char *prefix, const char *unknown,
                         const char *const *names, const char *otherwise);
