/* The fixed parts of plot_attention's page. In between stand the heading, and as JavaScript `L`
 * (layers), `H` (heads), `n` (tokens), `tokens` (n strings, escaped as by show_text) and
 * `weights` (L*H lists of n(n+1)/2 thousandths). */
#pragma once

extern const char plot_page_head[], plot_page_body[], plot_page_script[];
