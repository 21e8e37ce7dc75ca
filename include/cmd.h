/* Subcommands: each parses its arguments, calls the layer below, prints. Returns the exit code. */
#pragma once
#include "config.h"

#define PUCK_VERSION "0.1"

/* What each begins with. False if there is nothing more to do: help was asked for and given, or the
 * call is wrong and was told so; *code is then the exit code. */
bool cmd_parse(Settings *s, int command, int argc, char **argv, int *code);
/* Prints the error, returns its exit code. */
int cmd_fail(const Error *e);
/* What most are: parses, runs, and returns the exit code. */
int cmd_call(int command, int argc, char **argv, bool (*run)(Settings *, Error *));

int cmd_train(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_plot(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_classify(int argc, char **argv);
int cmd_help(int argc, char **argv);
/* `puck` alone: what there is, in a few lines. */
void cmd_overview(void);
/* Names of the subcommands, ended by NULL. */
const char *const *cmd_names(void);
