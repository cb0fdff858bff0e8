-- The small line below a figure or table that leads back to its data, its code and its runs.
-- vitrail.report.source_lines writes it; both routes lay it out here. The runs are listed in
-- the page, where they fold; the PDF has their number, and the question's sources.json names them.

local html = FORMAT:match("^html") ~= nil

local function folded(runs)
  local out = pandoc.Blocks({ pandoc.RawBlock("html", "<details><summary>" .. runs.attributes.title .. "</summary>") })
  out:extend(runs.content)
  out:insert(pandoc.RawBlock("html", "</details>"))
  return out
end

local function source(div)
  if not div.classes:includes("source") then return nil end
  local line, runs = div.content[1].content, div.content[2]
  if html then
    local content = pandoc.Blocks({ pandoc.Para(line) })
    if runs then content:extend(folded(runs)) end
    return pandoc.Div(content, pandoc.Attr("", { "source" })), false
  end
  if runs then line:extend({ pandoc.Space(), pandoc.Str("·"), pandoc.Space(), pandoc.Str(runs.attributes.title) }) end
  return { pandoc.RawBlock("typst", "#source["), pandoc.Plain(line), pandoc.RawBlock("typst", "]") }, false
end

return { { traverse = "topdown", Div = source } }
