def render_html(r,f): return ""
