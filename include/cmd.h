/* Subcommands: each parses its arguments, calls the layer below, prints. Returns the exit code. */
#pragma once

#define PUCK_VERSION "0.1"

int cmd_train(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_help(int argc, char **argv);
/* `puck` alone: what there is, in a few lines. */
void cmd_overview(void);
/* Names of the subcommands, ended by NULL. */
const char *const *cmd_names(void);
