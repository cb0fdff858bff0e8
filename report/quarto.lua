-- Under Quarto, style.css does not reach the PDF: hand boxes, verdicts and code to quarto.typ.
if not FORMAT:match("typst") then return {} end

local boxes = { answer = true, provenance = true, small = true }
local verdicts = { supported = true, refuted = true, undecided = true, notrun = true }

local function block(text) return pandoc.RawBlock("typst", text) end
local function inline(text) return pandoc.RawInline("typst", text) end

-- Names in code have nowhere to break; a narrow cell would print them over its neighbour.
local breakable = {
  Code = function(code)
    code.text = code.text:gsub("[_/.]", "%0\u{200b}")
    return code
  end,
}

return {
  {
    Div = function(div)
      local kind = div.classes[1]
      if not boxes[kind] then return nil end
      div.content:insert(1, block("#" .. kind .. "["))
      div.content:insert(block("]"))
      return div.content
    end,
    Span = function(span)
      local kind = span.classes[2]
      if span.classes[1] ~= "verdict" or not verdicts[kind] then return nil end
      span.content:insert(1, inline('#verdict("' .. kind .. '")['))
      span.content:insert(inline("]"))
      return span.content
    end,
    Table = function(tbl) return tbl:walk(breakable) end,
    CodeBlock = function(code)
      local name = code.attributes.filename
      code.attributes.filename = nil
      local shown = name and '"' .. name:gsub('[\\"]', "\\%0") .. '"' or "none"
      return { block("#code-block(" .. shown .. ")["), code, block("]") }
    end,
  },
}
